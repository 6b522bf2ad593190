package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// startRegistry starts Debian's docker-registry on a free port of 127.0.0.1, a process of its own. It lets in
// whoever stands in users, a text as htpasswd writes it; without users everybody.
func startRegistry(t *testing.T, users string) (host string) {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: 127.0.0.1:0}\n", dir)
	if users != "" {
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s/users}}\n", dir)
	}
	for name, text := range map[string]string{"config.yml": config, "users": users} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(registryProgram(t), "serve", filepath.Join(dir, "config.yml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended; then its log was shown
		_ = cmd.Wait()
	})
	log := bufio.NewScanner(stderr)
	var seen strings.Builder
	for log.Scan() {
		seen.WriteString(log.Text() + "\n")
		if found := listening.FindStringSubmatch(log.Text()); found != nil {
			go func() { // or it stops when the pipe is full
				for log.Scan() {
				}
			}()
			return found[1]
		}
	}
	t.Fatalf("docker-registry does not listen:\n%s", seen.String())
	return ""
}

// listening is what docker-registry says of its port: level=info msg="listening on 127.0.0.1:43561".
var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// registryProgram is the machine's own, or the one which scripts/test.sh has put into bin/.
func registryProgram(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("docker-registry"); err == nil {
		return path
	}
	path, err := filepath.Abs("../bin/docker-registry")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: scripts/test.sh registry brings it", err)
	}
	return path
}
