package runtime

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/kubelet/shim"
)

// TestMain lets the test binary be the shim: the runtime starts it as "TEST serve DIR".
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve":
			exitOn(shim.Serve(os.Args[2]))
		case "start-pause":
			exitOn(shim.StartPause("/proc/self/exe", os.Args[2]))
		case "pause":
			shim.Pause()
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func exitOn(err error) {
	if err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

type fixture struct {
	t     *testing.T
	rt    *Runtime
	layer string
	dir   string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	nstest.NeedRoot(t)
	// Not t.TempDir: a socket's directory is opened by path, and mounts must be gone before it is.
	dir, err := os.MkdirTemp("", "runtime") //nolint:usetesting // mounts in it must be gone before it is removed
	if err != nil {
		t.Fatal(err)
	}
	rt, err := New(dir, filepath.Join(dir, "run"), "/proc/self/exe", LogLimits{})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, rt: rt, layer: filepath.Join(dir, "layer"), dir: dir}
	t.Cleanup(func() {
		records, _, err := rt.Records()
		if err != nil {
			t.Error(err)
		}
		for _, r := range records {
			if err := rt.Remove(context.Background(), r.ID); err != nil {
				t.Error(err)
			}
		}
		if err := RemoveCgroup("/podarium-runtime-test"); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	f.busybox()
	return f
}

func (f *fixture) busybox() {
	f.t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		f.t.Fatalf("the tests need busybox-static: %v", err)
	}
	for _, dir := range []string{"bin", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(f.layer, dir), 0o755); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.layer, "bin/busybox"), busybox, 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.layer, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n"), 0o644); err != nil {
		f.t.Fatal(err)
	}
	for _, applet := range []string{"sh", "cat", "id", "sleep", "echo", "hostname", "dd", "tail"} {
		if err := os.Symlink("busybox", filepath.Join(f.layer, "bin", applet)); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) run(c Container) (*Record, error) {
	f.t.Helper()
	random := make([]byte, 8)
	rand.Read(random)
	record := &Record{ID: hex.EncodeToString(random), Name: "test"}
	record.LogPath = filepath.Join(f.dir, "logs", record.ID, "0.log")
	c.Layers, c.CgroupPath = []string{f.layer}, "/podarium-runtime-test/"+record.ID
	c.Capabilities = DefaultCapabilities
	if err := f.rt.Create(record, c); err != nil {
		f.t.Fatal(err)
	}
	return record, f.rt.Start(record)
}

func (f *fixture) log(r *Record) string {
	f.t.Helper()
	data, err := os.ReadFile(r.LogPath)
	if err != nil {
		f.t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 {
			f.t.Fatalf("log line %q is not in CRI format", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			f.t.Fatal(err)
		}
		text.WriteString(fields[1] + " " + fields[2] + " " + fields[3])
	}
	return text.String()
}

func TestContainerRunsLogsAndExits(t *testing.T) {
	f := newFixture(t)
	c := Container{Args: []string{"sh", "-c", "echo hello; echo oops >&2; id; printf end; exit 7"}, User: User{Image: "web"}}
	r, err := f.run(c)
	if err != nil {
		t.Fatal(err)
	}
	exit, ok := f.rt.Wait(t.Context(), r.ID)
	if !ok || exit.Code != 7 || exit.OOMKilled {
		t.Errorf("exit = %+v, %v; want code 7", exit, ok)
	}
	lines := strings.Split(strings.TrimSpace(f.log(r)), "\n")
	slices.Sort(lines)
	want := []string{"stderr F oops", "stdout F hello", "stdout F uid=33(web) gid=34 groups=34", "stdout P end"}
	if !slices.Equal(lines, want) {
		t.Errorf("log = %q, want %q", lines, want)
	}
	if err := f.rt.Release(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if exit, ok := f.rt.Exited(r.ID); !ok || exit.Code != 7 {
		t.Errorf("exit status is lost after Release: %+v, %v", exit, ok)
	}
}

// TestShimHoldsFile: its lock tells others that the container runs. The container knows nothing of it.
func TestShimHoldsFile(t *testing.T) {
	f := newFixture(t)
	hold, err := os.Create(filepath.Join(f.dir, "hold"))
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	r, err := f.run(Container{Args: []string{"sleep", "1000"}, Hold: hold.Name()})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(hold.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("lock while the container runs: %v", err)
	}
	var out bytes.Buffer
	if _, err := f.rt.Exec(t.Context(), r.ID, []string{"sh", "-c", "echo /proc/1/fd/*"}, Streams{Stdout: &out}); err != nil || out.String() != "/proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2\n" {
		t.Errorf("the container has open: %s %v", out.String(), err)
	}
	if err := f.rt.Signal(t.Context(), r.ID, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := unix.Flock(int(hold.Fd()), unix.LOCK_EX); err != nil { // waits for the shim's end
		t.Error(err)
	}
	if exit, ok := f.rt.Exited(r.ID); !ok || exit.Code != 137 {
		t.Errorf("the lock is free before the exit status is there: %+v %v", exit, ok)
	}
}

func TestContainerThatCannotStart(t *testing.T) {
	f := newFixture(t)
	_, err := f.run(Container{Args: []string{"no-such-program"}})
	var start *StartError
	if !errors.As(err, &start) || !strings.Contains(start.Message, "executable file not found in $PATH") {
		t.Errorf("error = %v, want a StartError which names the cause", err)
	}
}

func TestOutOfMemory(t *testing.T) {
	f := newFixture(t)
	r, err := f.run(Container{Args: []string{"tail", "/dev/zero"}, MemoryLimit: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if exit, ok := f.rt.Wait(t.Context(), r.ID); !ok || exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("exit = %+v, %v; want 137 and OOMKilled", exit, ok)
	}
}

func TestExecAndSignal(t *testing.T) {
	f := newFixture(t)
	r, err := f.run(Container{Args: []string{"sleep", "1000"}, Env: []string{"GREETING=hi"}})
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code, err := f.rt.Exec(t.Context(), r.ID, []string{"sh", "-c", "echo $GREETING; cat; echo bad >&2; exit 3"},
		Streams{Stdin: strings.NewReader("typed\n"), Stdout: &out, Stderr: &errs})
	if err != nil || code != 3 || out.String() != "hi\ntyped\n" || errs.String() != "bad\n" {
		t.Errorf("exec = %d, %v, %q, %q", code, err, out.String(), errs.String())
	}
	out.Reset()
	code, err = f.rt.Exec(t.Context(), r.ID, []string{"sh", "-c", "test -t 0 && echo terminal"}, Streams{Stdout: &out, TTY: true})
	if err != nil || code != 0 || out.String() != "terminal\r\n" {
		t.Errorf("exec with terminal = %d, %v, %q", code, err, out.String())
	}
	var refused *ExecError
	if _, err = f.rt.Exec(t.Context(), r.ID, []string{"nothing"}, Streams{Stdout: &out}); !errors.As(err, &refused) {
		t.Errorf("exec of a missing program: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err = f.rt.Exec(short, r.ID, []string{"sleep", "1000"}, Streams{Stdout: &out}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("exec after its time: %v", err)
	}
	if err := f.rt.Signal(t.Context(), r.ID, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if exit, ok := f.rt.Wait(t.Context(), r.ID); !ok || exit.Code != 137 {
		t.Errorf("exit = %+v, %v; want 137", exit, ok)
	}
}

func TestAttachToTerminal(t *testing.T) {
	f := newFixture(t)
	r, err := f.run(Container{Args: []string{"sh", "-c", "read line; echo got $line"}, Stdin: true, TTY: true})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := f.rt.Attach(t.Context(), r.ID, Streams{Stdin: strings.NewReader("word\n"), Stdout: &out, TTY: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(out.String(), "got word\r\n") {
		t.Errorf("attach shows %q", out.String())
	}
}

func TestPodNamespaces(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(f.dir, "ns")
	want := NewNamespaces{Network: true, IPC: true, UTS: true, Hostname: "pod-a", Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}}
	if err := NewPodNamespaces(dir, want); err != nil {
		t.Fatal(err)
	}
	if err := f.rt.NewPIDNamespace(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	ns := Namespaces{Network: dir + "/net", IPC: dir + "/ipc", UTS: dir + "/uts", PID: dir + "/pid"}
	r, err := f.run(Container{Args: []string{"sh", "-c", "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; exit $$"}, Namespaces: ns})
	if err != nil {
		t.Fatal(err)
	}
	if exit, ok := f.rt.Wait(t.Context(), r.ID); !ok || exit.Code < 2 {
		t.Errorf("exit = %+v, %v: the shell should not be process 1 of the shared namespace", exit, ok)
	}
	if got := f.log(r); got != "stdout F pod-a\nstdout F 80\n" {
		t.Errorf("log = %q", got)
	}
	if err := f.rt.Remove(t.Context(), r.ID); err != nil {
		t.Error(err)
	}
	if err := RemovePodNamespaces(dir); err != nil {
		t.Error(err)
	}
	if out, _ := exec.Command("grep", dir, "/proc/self/mounts").Output(); len(out) > 0 {
		t.Errorf("mounts are left: %s", out)
	}
}

func TestAddDrop(t *testing.T) {
	if got := AddDrop([]string{"NET_ADMIN"}, []string{"ALL"}); !slices.Equal(got, []string{"CAP_NET_ADMIN"}) {
		t.Errorf("drop ALL, add NET_ADMIN = %v", got)
	}
	if got := AddDrop(nil, []string{"CHOWN"}); slices.Contains(got, "CAP_CHOWN") || len(got) != len(DefaultCapabilities)-1 {
		t.Errorf("drop CHOWN = %v", got)
	}
	if got := AddDrop([]string{"ALL"}, []string{"SYS_TIME"}); slices.Contains(got, "CAP_SYS_TIME") || len(got) != len(AllCapabilities())-1 {
		t.Errorf("add ALL, drop SYS_TIME = %v", got)
	}
}

func TestEffectiveCapabilities(t *testing.T) {
	for text, want := range map[string]string{
		"Name:\tkubelet\nCapEff:\t0000000000000001\n": "CAP_CHOWN",
		"CapEff:\t0000010000001000\n":                 "CAP_NET_ADMIN CAP_CHECKPOINT_RESTORE",
		"CapEff:\tnonsense\n":                         strings.Join(DefaultCapabilities, " "),
	} {
		if got := strings.Join(effectiveCapabilities(text), " "); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if len(capabilities) != 41 || capabilities[40] != "CAP_CHECKPOINT_RESTORE" || capabilities[21] != "CAP_SYS_ADMIN" {
		t.Error("the numbers of capabilities are wrong")
	}
}
