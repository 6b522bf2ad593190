package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// sharedLab is the lab which the scripts in testdata/cluster share. It is not
// called "lab", so that a lab somebody works with is left alone.
const sharedLab = "test"

// podarium is the binary under test; `make test-lab` builds it first.
func podarium(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../bin/podarium")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

// TestCluster runs the scripts of the shared lab: those of testdata/cluster with
// three kubectls, and those of testdata/nodes, which empty nodes, with two and
// when nobody else is there; those of testdata/controllers and testdata/network, which ask
// controllers and the kernel more than kubectl, with one.
func TestCluster(t *testing.T) {
	bin := podarium(t)
	home := t.TempDir()
	run(t, home, bin, "down", "--name", sharedLab) // what an interrupted run has left
	t.Cleanup(func() { run(t, home, bin, "down", "--name", sharedLab) })
	t.Log(run(t, home, bin, "up", "--name", sharedLab))
	kubectls := findKubectls(t, bin)
	if len(kubectls) > 1 && len(kubectls) < 3 {
		t.Fatalf("only %v are here", kubectls)
	}
	for _, k := range bundledOldestNewest(kubectls) {
		t.Run(k.name, func(t *testing.T) { runShared(t, "testdata/cluster", k) })
	}
	for _, k := range kubectls[:min(2, len(kubectls))] {
		t.Run("nodes-"+k.name, func(t *testing.T) { runShared(t, "testdata/nodes", k) })
	}
	t.Run("streams", func(t *testing.T) { runStreams(t, kubectls) })
	t.Run("controllers", func(t *testing.T) { runShared(t, "testdata/controllers", kubectls[0]) })
	t.Run("network", func(t *testing.T) { runShared(t, "testdata/network", kubectls[0]) })
}

// runStreams runs the script of exec and its kin with every kubectl there is,
// over the protocols which it speaks.
func runStreams(t *testing.T, kubectls []kubectl) {
	t.Helper()
	for _, k := range kubectls {
		for _, protocol := range k.protocols() {
			t.Run(k.name+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				testscript.Run(t, params(t, "testdata/streams", func(env *testscript.Env) error {
					env.Setenv("LAB", sharedLab)
					env.Setenv("PROTOCOL", protocol)
					env.Setenv("NAMESPACE", "streams-"+strings.ReplaceAll(k.name, ".", "-")+"-"+protocol)
					websocket := strconv.FormatBool(protocol == "websocket")
					env.Setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket)
					env.Setenv("KUBECTL_PORT_FORWARD_WEBSOCKETS", websocket)
					return useKubectl(env, k)
				}))
			})
		}
	}
}

func runShared(t *testing.T, dir string, k kubectl) {
	t.Helper()
	testscript.Run(t, params(t, dir, func(env *testscript.Env) error {
		env.Setenv("LAB", sharedLab)
		return useKubectl(env, k)
	}))
}

// useKubectl gives a script its kubectl, and a kubeconfig which it may change.
func useKubectl(env *testscript.Env, k kubectl) error {
	admin, err := os.ReadFile("/var/lib/podarium/" + sharedLab + "/admin.conf")
	if err != nil {
		return err
	}
	config := filepath.Join(env.WorkDir, ".kubeconfig")
	env.Setenv("KUBECONFIG", config)
	if err := os.WriteFile(config, admin, 0o600); err != nil {
		return err
	}
	return os.Symlink(k.path, filepath.Join(env.WorkDir, ".bin", "kubectl"))
}

// TestLab runs the scripts which start and end labs of their own.
func TestLab(t *testing.T) {
	bin := podarium(t)
	testscript.Run(t, params(t, "testdata/lab", func(env *testscript.Env) error {
		env.Setenv("KUBECONFIG", filepath.Join(env.WorkDir, "kubeconfig"))
		name := "test-" + strings.ReplaceAll(strings.TrimPrefix(filepath.Base(env.WorkDir), "script-"), "_", "-")
		env.Setenv("LAB", name)
		env.Defer(func() { _ = exec.Command(bin, "down", "--name", name).Run() }) // down already, or left by a failed script
		return os.Symlink(bin, filepath.Join(env.WorkDir, ".bin", "kubectl"))
	}))
}

func params(t *testing.T, dir string, setup func(*testscript.Env) error) testscript.Params {
	t.Helper()
	bin := podarium(t)
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually": eventually,
			"matches":    matches,
			"node":       node,
			"save":       save,
		},
		Setup: func(env *testscript.Env) error {
			tools := filepath.Join(env.WorkDir, ".bin")
			if err := os.MkdirAll(tools, 0o755); err != nil {
				return err
			}
			env.Setenv("PATH", tools+":"+filepath.Dir(bin)+":"+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("PODARIUM_EGRESS", "loopback")
			env.Setenv("EXAMPLES", examples)
			env.Setenv("TESTBINARY", self)
			return setup(env)
		},
	}
}

// kubectl is one version of it.
type kubectl struct{ name, path string }

// protocols are those over which exec and port-forward go. kubectl has spoken
// WebSocket for both since 1.30 and falls back to SPDY, which it always has.
func (k kubectl) protocols() []string {
	var minor int
	if _, err := fmt.Sscanf(k.name, "kubectl.1.%d", &minor); err == nil && minor < 30 {
		return []string{"spdy"}
	}
	return []string{"websocket", "spdy"}
}

// findKubectls: the bundled one, and those beside the machine's kubectl
// (kubectl.1.27, kubectl.1.28 …).
func findKubectls(t *testing.T, bin string) []kubectl {
	t.Helper()
	list := []kubectl{{"bundled", bin}}
	machine, err := exec.LookPath("kubectl")
	if err != nil {
		return list
	}
	machine, err = filepath.EvalSymlinks(machine)
	if err != nil {
		t.Fatal(err)
	}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(machine), "kubectl.1.*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(others)
	for _, path := range others {
		list = append(list, kubectl{filepath.Base(path), path})
	}
	return list
}

// bundledOldestNewest leaves out the versions in between.
func bundledOldestNewest(list []kubectl) []kubectl {
	if len(list) <= 3 {
		return list
	}
	return []kubectl{list[0], list[1], list[len(list)-1]}
}

func run(t testing.TB, home, bin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(home, "kubeconfig"), "PODARIUM_EGRESS=loopback")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(bin), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// eventually runs a command every 50 ms until it succeeds ("!": fails), for
// states which no command of kubectl waits for.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	limit, command := seconds(ts, "eventually SECONDS CMD…", args)
	until(ts, limit, func() error {
		_, err := try(ts, command)
		if neg && err == nil {
			return fmt.Errorf("%v still succeeds", command)
		}
		if neg {
			return nil
		}
		return err
	})
}

// matches runs a command until its standard output matches ("!": does not).
func matches(ts *testscript.TestScript, neg bool, args []string) {
	limit, rest := seconds(ts, "matches SECONDS REGEXP CMD…", args)
	pattern, err := regexp.Compile("(?m)" + rest[0])
	ts.Check(err)
	until(ts, limit, func() error {
		out, err := try(ts, rest[1:])
		if err != nil {
			return err
		}
		if pattern.MatchString(out) == neg {
			return fmt.Errorf("output of %v:\n%s", rest[1:], out)
		}
		return nil
	})
}

// node is `podarium node exec` on the script's lab; its output is there for
// stdout and stderr.
func node(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: node NODE CMD…")
	}
	command := append([]string{"node", "--name", ts.Getenv("LAB"), "exec", args[0], "--"}, args[1:]...)
	err := ts.Exec("podarium", command...)
	if neg && err == nil {
		ts.Fatalf("unexpected success")
	}
	if !neg {
		ts.Check(err)
	}
}

// save keeps what a command prints, without the space around it, in a variable
// of the script: save IP kubectl get svc nginx -o jsonpath={.spec.clusterIP}.
func save(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: save NAME CMD…")
	}
	out, err := try(ts, args[1:])
	ts.Check(err)
	ts.Setenv(args[0], strings.TrimSpace(out))
}

func seconds(ts *testscript.TestScript, usage string, args []string) (time.Duration, []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: %s", usage)
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	return time.Duration(n) * time.Second, args[1:]
}

// try runs a command with the script's environment; "node" works as in a script.
func try(ts *testscript.TestScript, command []string) (string, error) {
	if command[0] == "node" {
		command = append([]string{"podarium", "node", "--name", ts.Getenv("LAB"), "exec", command[1], "--"}, command[2:]...)
	}
	cmd := exec.Command("env", command...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "KUBECONFIG", "LAB"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%v: %w: %s%s", command, err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

func until(ts *testscript.TestScript, limit time.Duration, check func() error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-end:
			ts.Fatalf("not within %v: %v", limit, err)
		case <-tick.C:
		}
	}
}
