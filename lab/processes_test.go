package lab

import "testing"

// A world starts a child in a network namespace of its own: until the child has
// called exec, it has the world's command line. Who then enters "the world" must not
// enter the child, also when numbers have wrapped and the child's is the smaller one.
func TestOldestOf(t *testing.T) {
	argv := []string{"podarium-world", "lab"}
	list := []process{
		{PID: 101, PPID: 32001, Args: argv}, // the child, before exec
		{PID: 32001, PPID: 1, Args: argv},
		{PID: 32002, PPID: 32001, Args: []string{"node-init", "lab", "node-1"}},
		{PID: 32003, PPID: 1, Args: []string{"podarium-world", "other"}},
	}
	if got := oldestOf(list, argv); got != 32001 {
		t.Errorf("the world is %d, want 32001", got)
	}
	if got := oldestOf(list, []string{"podarium-world", "none"}); got != 0 {
		t.Errorf("a world that does not run is %d, want 0", got)
	}
}
