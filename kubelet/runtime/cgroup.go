package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// RemoveCgroup removes a control group with all groups below it, from the one hierarchy of version 2
// or from every hierarchy of version 1. runc removes a container's own group, not its parents.
func RemoveCgroup(path string) error {
	for _, hierarchy := range hierarchies() {
		top := filepath.Join(hierarchy, path)
		var dirs []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list control group %s: %w", path, err)
		}
		slices.Reverse(dirs) // children first
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove control group %s: %w", dir, err)
			}
		}
	}
	return nil
}

// Cgroups lists the names of the groups directly below path in any hierarchy.
func Cgroups(path string) []string {
	var names []string
	for _, hierarchy := range hierarchies() {
		entries, err := os.ReadDir(filepath.Join(hierarchy, path))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if entry.IsDir() && !slices.Contains(names, entry.Name()) {
				names = append(names, entry.Name())
			}
		}
	}
	return names
}

// hierarchies are the roots of the machine's control groups: the mount itself with version 2, a
// directory per controller (cpu, memory, …) and perhaps "unified" with version 1.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		return []string{cgroupMount}
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() { // cpu,cpuacct is a directory, cpu may be a link to it
			roots = append(roots, filepath.Join(cgroupMount, entry.Name()))
		}
	}
	return roots
}
