//go:build kubeproxy

package compare

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

// Both are built by scripts/compare.sh.
const (
	podarium  = "../../bin/podarium"
	kubeProxy = "../../.cache/kube-proxy"
)

// program is one that runs until the test ends.
type program struct {
	name    string
	host    *nstest.Host
	path    string
	args    []string
	sockets []*os.File
	log     *os.File
}

// start starts it in its host's network namespace.
func start(t *testing.T, p *program) *program {
	t.Helper()
	path, err := filepath.Abs(p.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make compare`, which builds it", err)
	}
	if p.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"--net=" + p.host.Path(), path}, p.args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = p.log, p.log, p.sockets
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(p.sockets)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		p.log.Close()
	})
	return p
}

// said is the end of what it said.
func (p *program) said() string {
	said, _ := os.ReadFile(p.log.Name())
	return fmt.Sprintf("%s said:\n%s", p.name, said[max(0, len(said)-3000):])
}

// pair is kube-proxy and ours in the same mode.
type pair struct {
	t            *testing.T
	mode         string
	theirs, ours *nstest.Host
	programs     []*program
}

func newPair(t *testing.T, mode string) *pair {
	t.Helper()
	return &pair{t: t, mode: mode, theirs: newNode(t), ours: newNode(t)}
}

// newNode looks like node-1.
func newNode(t *testing.T) *nstest.Host {
	t.Helper()
	host := nstest.New(t)
	host.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
	host.Run(t, "ip", "addr", "add", "192.168.56.11/24", "dev", "eth0")
	host.Run(t, "ip", "addr", "add", "fd00:56::11/64", "dev", "eth0", "nodad")
	host.Run(t, "ip", "link", "set", "eth0", "up")
	host.Run(t, "ip", "link", "set", "wire", "up")
	return host
}

func (p *pair) start(kubeconfig string, flags []string) {
	p.t.Helper()
	args := append([]string{
		"--kubeconfig=" + kubeconfig, "--hostname-override=node-1", "--proxy-mode=" + p.mode, "--v=2",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}, flags...)
	p.programs = []*program{
		start(p.t, &program{name: "kube-proxy", host: p.theirs, path: kubeProxy, args: args}),
		start(p.t, &program{name: "our proxy", host: p.ours, path: podarium, args: append([]string{"proxy"}, args...)}),
	}
}

// settle is the rules when both know the step, and their answers on these ports.
// They are asked again as long as they differ, until neither has changed any more
// for a while.
func (p *pair) settle(step int, ports []int32) (theirs, ours string) {
	p.t.Helper()
	const calm = 8 * time.Second
	known := func(rules string) bool {
		for _, mark := range marks(step) {
			if !strings.Contains(rules, mark) {
				return false
			}
		}
		return true
	}
	var changed time.Time
	if !within(2*time.Minute, func() bool {
		t, o := p.state(p.theirs, ports), p.state(p.ours, ports)
		if t != theirs || o != ours {
			theirs, ours, changed = t, o, time.Now()
		}
		return known(t) && known(o) && (t == o || time.Since(changed) > calm)
	}) {
		p.t.Fatalf("%s mode: not both know step %d\n%s\n%s", p.mode, step, p.programs[0].said(), p.programs[1].said())
	}
	return theirs, ours
}

func (p *pair) state(host *nstest.Host, ports []int32) string {
	return p.rules(host) + healthChecks(p.t.Context(), host, ports)
}

// rules are those of both families, made comparable. What is not there yet is
// empty.
func (p *pair) rules(host *nstest.Host) string {
	var all bytes.Buffer
	if p.mode == "iptables" {
		for _, save := range []string{"iptables-save", "ip6tables-save"} {
			text, _ := host.Try(save)
			fmt.Fprintf(&all, "# %s\n%s", save, proxytest.NormaliseIPTables(text))
		}
		return all.String()
	}
	for _, family := range []string{"ip", "ip6"} {
		text, _ := host.Try("nft", "list", "table", family, "kube-proxy")
		all.WriteString(withoutOutdated(text))
	}
	return all.String()
}

// within asks again and again, for what no watch tells.
func within(limit time.Duration, ok func() bool) bool {
	timeout := time.After(limit)
	for !ok() {
		select {
		case <-timeout:
			return false
		case <-time.After(200 * time.Millisecond):
		}
	}
	return true
}
