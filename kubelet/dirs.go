package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// runDir is a tmpfs for what ends with the boot: namespaces, mounts, sockets, the texts of ConfigMaps
// and Secrets, which thus never come to a disk.
func (cfg Config) runDir() string { return filepath.Join(cfg.RootDir, "run") }

func (cfg Config) makeDirs() error {
	for _, dir := range []string{filepath.Join(cfg.RootDir, "pods"), cfg.runDir(), cfg.LogDir, cfg.logLinkDir(), cfg.CNIConfDir, cfg.StaticPodPath} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory of kubelet: %w", err)
		}
	}
	if isMountPoint(cfg.runDir()) { // an earlier kubelet did it
		return nil
	}
	// Scripts of a ConfigMap are executed: no noexec.
	if err := unix.Mount("tmpfs", cfg.runDir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711"); err != nil {
		return fmt.Errorf("mount %s: %w", cfg.runDir(), err)
	}
	return nil
}

// podDirs are the two directories of a pod.
type podDirs struct {
	state string // pods/UID: what survives a boot
	run   string // run/pods/UID: what does not
}

// make makes the first before the second: whoever finds the pods by the first finds all of the second.
func (d podDirs) make() error {
	for _, dir := range []string{d.state, d.run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make pod directory: %w", err)
		}
	}
	return nil
}

// remove unmounts what is mounted in a pod's directories and removes them. Nothing outside is touched:
// a hostPath volume is never mounted there, only into containers.
func (d podDirs) remove() error {
	if err := d.removeVolumes(); err != nil {
		return err
	}
	if err := detach(filepath.Join(d.run, "shm")); err != nil {
		return err
	}
	return removeAll(d.run, d.state)
}

// removeVolumes removes the pod's volumes with all that is in them.
func (d podDirs) removeVolumes() error {
	mounts, err := memoryVolumes(d.state)
	if err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	for _, path := range mounts {
		if err := detach(path); err != nil {
			return err
		}
	}
	return removeAll(filepath.Join(d.run, volumesDir), filepath.Join(d.state, volumesDir))
}

func detach(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

func removeAll(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove pod directory: %w", err)
		}
	}
	return nil
}

// memoryVolumes are the emptyDir volumes with medium Memory: mounts of their own.
func memoryVolumes(podDir string) ([]string, error) {
	var mounts []string
	err := filepath.WalkDir(volumeDir(podDir, "empty-dir", ""), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		if isMountPoint(path) {
			mounts = append(mounts, path)
			return filepath.SkipDir
		}
		if filepath.Base(filepath.Dir(path)) == "kubernetes.io~empty-dir" {
			return filepath.SkipDir
		}
		return nil
	})
	return mounts, err
}
