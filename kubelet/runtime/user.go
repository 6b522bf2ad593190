package runtime

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// User says as whom a container runs: what the pod wants, else what the image wants, else root.
type User struct {
	Image  string // USER of the image: name, uid, name:group or uid:gid
	UID    *int64 // runAsUser
	GID    *int64 // runAsGroup
	Groups []int64
	// MustNotBeRoot refuses uid 0 (runAsNonRoot).
	MustNotBeRoot bool
}

// ids is a user as the kernel knows it.
type ids struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// NonRootError refuses a container which would run as root although its pod forbids that.
type NonRootError struct{ Message string }

func (e *NonRootError) Error() string { return e.Message }

// resolveUser looks names up in the image's own /etc/passwd and /etc/group.
func resolveUser(rootfs string, u User) (ids, error) {
	name, group, _ := strings.Cut(u.Image, ":")
	if u.UID != nil {
		name = strconv.FormatInt(*u.UID, 10)
		group = ""
	}
	result, err := lookupUser(rootfs, name)
	if err != nil {
		return ids{}, err
	}
	if group != "" {
		gid, err := lookupGroup(rootfs, group)
		if err != nil {
			return ids{}, err
		}
		result.GID = gid
	}
	if u.GID != nil {
		result.GID = uint32(*u.GID)
	}
	for _, g := range u.Groups {
		if !slices.Contains(result.Groups, uint32(g)) {
			result.Groups = append(result.Groups, uint32(g))
		}
	}
	if u.MustNotBeRoot && result.UID == 0 {
		if u.UID != nil {
			return ids{}, &NonRootError{"container's runAsUser breaks non-root policy"}
		}
		return ids{}, &NonRootError{"container has runAsNonRoot and image will run as root"}
	}
	return result, nil
}

func lookupUser(rootfs, name string) (ids, error) {
	result := ids{Home: "/"}
	if name == "" {
		name = "0"
	}
	number, err := strconv.ParseUint(name, 10, 32)
	isNumber := err == nil
	for _, f := range databaseLines(rootfs, "etc/passwd", 7) {
		if f[0] != name && (!isNumber || f[2] != name) {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		result.UID, result.GID, result.Home = uint32(uid), uint32(gid), f[5]
		result.Groups = memberOf(rootfs, f[0])
		return result, nil
	}
	if !isNumber {
		return ids{}, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	}
	result.UID = uint32(number)
	if number == 0 {
		result.Home = "/root"
	}
	return result, nil
}

func lookupGroup(rootfs, name string) (uint32, error) {
	for _, f := range databaseLines(rootfs, "etc/group", 3) {
		if f[0] == name {
			if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
				return uint32(gid), nil
			}
		}
	}
	gid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
	}
	return uint32(gid), nil
}

func memberOf(rootfs, user string) []uint32 {
	var groups []uint32
	for _, f := range databaseLines(rootfs, "etc/group", 4) {
		if !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			groups = append(groups, uint32(gid))
		}
	}
	return groups
}

// databaseLines splits a file like /etc/passwd. The image may point its name anywhere by a symbolic
// link; os.Root does not follow it out of the image.
func databaseLines(rootfs, name string, fields int) [][]string {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return nil
	}
	defer root.Close()
	file, err := root.Open(filepath.Clean(name))
	if err != nil {
		return nil
	}
	defer file.Close()
	var lines [][]string
	for scan := bufio.NewScanner(file); scan.Scan(); {
		if f := strings.Split(scan.Text(), ":"); len(f) >= fields {
			lines = append(lines, f)
		}
	}
	return lines
}
