package api

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

// etcdVariable makes this test binary an etcd server with etcd's own flags.
const etcdVariable = "PODARIUM_TEST_ETCD"

func TestMain(m *testing.M) {
	if os.Getenv(etcdVariable) != "" {
		etcdmain.Main(os.Args)
		return
	}
	os.Exit(m.Run())
}

// process is a program that can be killed and started again.
type process struct {
	t    testing.TB
	name string
	host string // its host name, in a UTS namespace of its own; "" for the machine's
	path string
	args []string
	env  []string

	cmd *exec.Cmd
	log bytes.Buffer
}

func (p *process) start() {
	p.t.Helper()
	p.log.Reset()
	args := append([]string{p.path}, p.args...)
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.host != "" {
		args = append([]string{"sh", "-c", `hostname "$0" && exec "$@"`, p.host}, args...)
		attributes.Cloneflags = syscall.CLONE_NEWUTS
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = attributes
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// run starts a process that is killed when the test ends; what it said is told
// when the test has failed.
func run(t testing.TB, p *process) *process {
	t.Helper()
	p.t = t
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			said := p.log.Bytes()
			t.Logf("%s said:\n%s", p.name, said[max(0, len(said)-3000):])
		}
	})
	return p
}

func podarium(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/podarium")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

// freePorts are ports of 127.0.0.1 on which nobody listens.
func freePorts(t testing.TB, count int) []string {
	t.Helper()
	var ports []string
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // all at the end, so that none comes twice
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}
