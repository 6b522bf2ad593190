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
	// OnlyGroups leaves out the groups which the image's /etc/group has for the user.
	OnlyGroups bool
}

// ids is a user as the kernel knows it.
type ids struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

func (u ids) identity() *Identity {
	who := &Identity{UID: int64(u.UID), GID: int64(u.GID)}
	for _, group := range u.Groups {
		who.Groups = append(who.Groups, int64(group))
	}
	return who
}

// resolveUser looks names up in the image's own /etc/passwd and /etc/group. The group of the image's USER
// counts for nothing: Kubernetes takes only the user from there, and the group from /etc/passwd.
func resolveUser(rootfs string, u User) (ids, error) {
	name, _, _ := strings.Cut(u.Image, ":")
	if u.UID != nil {
		name = strconv.FormatInt(*u.UID, 10)
	}
	result, err := lookupUser(rootfs, name)
	if err != nil {
		return ids{}, err
	}
	if u.GID != nil {
		result.GID = uint32(*u.GID)
	}
	if u.OnlyGroups {
		result.Groups = nil
	}
	// A process that could leave its own group, being in none else, would pass by files which are closed
	// to that group (CVE-2022-36109), so the group is among the supplementary ones, too.
	result.Groups = append(result.Groups, result.GID)
	for _, g := range u.Groups {
		result.Groups = append(result.Groups, uint32(g))
	}
	slices.Sort(result.Groups)
	result.Groups = slices.Compact(result.Groups)
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
