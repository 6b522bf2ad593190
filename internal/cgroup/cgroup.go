// Package cgroup ends groups of processes: control groups of version 2, with one
// hierarchy, and of version 1, with one for each controller.
package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const mount = "/sys/fs/cgroup"

// patience with the kernel: there is no event for "the last dead process has
// left a v1 group".
const patience = 5 * time.Second

// Kill ends all processes in the group of that name, such as "kubepods", and in
// those below it.
func Kill(name string) error {
	return each(name, func(dir string) error {
		members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("list processes of %s: %w", dir, err)
		}
		for field := range bytes.FieldsSeq(members) {
			if pid, err := strconv.Atoi(string(field)); err == nil && pid > 0 {
				_ = unix.Kill(pid, unix.SIGKILL) // may have ended just now
			}
		}
		return nil
	})
}

// Remove removes the group of that name from every hierarchy, with those below
// it. Their processes are dead, but the kernel may need a moment to notice.
func Remove(name string) error { return each(name, removeEmpty) }

// each does something with the folders of a group, children first.
func each(name string, do func(dir string) error) error {
	var roots []string
	for _, glob := range []string{filepath.Join(mount, name), filepath.Join(mount, "*", name)} {
		found, err := filepath.Glob(glob)
		if err != nil {
			return fmt.Errorf("find cgroups: %w", err)
		}
		roots = append(roots, found...)
	}
	var errs []error
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("walk cgroup %s: %w", root, err)
		}
		slices.Reverse(dirs)
		for _, dir := range dirs {
			errs = append(errs, do(dir))
		}
	}
	return errors.Join(errs...)
}

func removeEmpty(dir string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}
