package kubelet

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestLeftPlugins: a plugin which runs is found by its environment, and awaited; one of somebody else's
// directory is not.
func TestLeftPlugins(t *testing.T) {
	binDir, elsewhere := t.TempDir(), t.TempDir()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	start := func(dir string) (*exec.Cmd, io.Closer) {
		path := filepath.Join(dir, "plugin")
		if err := os.WriteFile(path, program, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path)
		cmd.Env = []string{"CNI_COMMAND=ADD", "CNI_PATH=" + dir}
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, input
	}
	plugin, input := start(binDir)
	start(elsewhere)
	pids, err := runningPlugins(binDir)
	if err != nil || !slices.Equal(pids, []int{plugin.Process.Pid}) {
		t.Fatalf("found plugins %v, %v, want %d", pids, err, plugin.Process.Pid)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := awaitEnd(short, plugin.Process.Pid); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a plugin which runs ended with %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- awaitLeftPlugins(t.Context(), binDir) }()
	input.Close() // cat comes to its end
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if again, err := runningPlugins(binDir); err != nil || len(again) > 0 {
		t.Errorf("after the wait plugins %v run, %v", again, err)
	}
}
