package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Names of directories: the first in a container's bundle, the others in the directory which survives
// a boot.
const (
	rootfsDir = "rootfs" // the overlay is mounted here
	upperDir  = "upper"  // what the container writes
	workDir   = "work"   // the kernel's own
)

// mountPointsDir has layers of empty files and directories, on which every container gets something
// mounted and which images lack. As the lowest layers of a root file system they save runc from
// making each of them anew in the topmost one: a dozen files for a container of busybox.
const mountPointsDir = "mountpoints"

const (
	commonMountPoints  = "common"
	accountMountPoints = "serviceaccount"
	accountPath        = "/var/run/secrets/kubernetes.io/serviceaccount"
)

func makeMountPoints(dir string) error {
	common := filepath.Join(dir, commonMountPoints)
	for _, path := range []string{"proc", "dev", "sys", "etc"} {
		if err := os.MkdirAll(filepath.Join(common, path), 0o755); err != nil {
			return err
		}
	}
	for _, path := range []string{"etc/hosts", "etc/hostname", "etc/resolv.conf"} {
		if err := os.WriteFile(filepath.Join(common, path), nil, 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, accountMountPoints, accountPath), 0o755)
}

// mountPoints are the layers with the mount points of a container, to be put below those of its image.
func (r *Runtime) mountPoints(c Container) []string {
	layers := []string{filepath.Join(r.dir, mountPointsDir, commonMountPoints)}
	if slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Destination == accountPath }) {
		layers = append(layers, filepath.Join(r.dir, mountPointsDir, accountMountPoints))
	}
	return layers
}

// mountOverlay mounts on rootfs: the layers (bottom first) below, dir/upper on top.
func mountOverlay(rootfs, dir string, layers []string) error {
	upper, work := filepath.Join(dir, upperDir), filepath.Join(dir, workDir)
	for _, path := range []string{rootfs, upper, work} {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
	}
	lower := make([]string, len(layers))
	for i, layer := range layers {
		lower[len(layers)-1-i] = layer // the kernel wants the top one first
	}
	options := "lowerdir=" + strings.Join(lower, ":") +
		",upperdir=" + upper + ",workdir=" + work
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("image has %d layers, more than one mount can name", len(layers))
	}
	if err := unix.Mount("overlay", rootfs, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// unmount detaches a mount; nothing mounted there is no error.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}
