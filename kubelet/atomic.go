package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// volumeFile is one file of a volume which the kubelet writes.
type volumeFile struct {
	data []byte
	mode fs.FileMode
	uid  *int64 // the owner; nil is root
}

// volumeRights are who may do what with a volume's directory, and the group of all that is in it, nil for root's.
type volumeRights struct {
	mode fs.FileMode
	gid  *int64
}

// dataLink points at the directory with the present content.
const dataLink = "..data"

// writeVolume makes dir contain exactly these files, all of them changing at the same moment:
//
//	..2026_01_02_03_04_05.123/   the new content
//	..data -> ..2026_01_02…      renamed over the old link: the moment of the change
//	ca.crt -> ..data/ca.crt      what the containers open
//
// It tells whether anything changed.
func writeVolume(dir string, files map[string]volumeFile, rights volumeRights) (bool, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err == nil && sameContent(filepath.Join(dir, old), files) {
		return false, nil
	}
	fresh := ".." + time.Now().UTC().Format("2006_01_02_15_04_05.000000000")
	if err := writeFiles(filepath.Join(dir, fresh), files, rights.gid); err != nil {
		return false, err
	}
	next := filepath.Join(dir, dataLink+"_tmp")
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := os.Symlink(fresh, next); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, dataLink)); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := linkNames(dir, files); err != nil {
		return false, err
	}
	if err := rights.apply(dir); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if old != "" {
		return true, os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return true, nil
}

// apply sets mode and group of the directory, and the group of the links and directories in it. What somebody
// makes in a directory with the set-group-ID bit gets its group, too.
func (r volumeRights) apply(dir string) error {
	if r.gid == nil {
		return os.Chmod(dir, r.mode)
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type().IsRegular() {
			return err
		}
		if err := os.Lchown(path, -1, int(*r.gid)); err != nil || !entry.IsDir() {
			return err
		}
		mode := fs.FileMode(0o755)
		if path == dir {
			mode = r.mode
		}
		return os.Chmod(path, mode|fs.ModeSetgid)
	})
}

func writeFiles(dir string, files map[string]volumeFile, gid *int64) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	root, err := os.OpenRoot(dir) // a path such as ../x from an items list must not leave the volume
	if err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	defer root.Close()
	for name, file := range files {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("write volume file %s: %w", name, err)
		}
		if err := root.WriteFile(name, file.data, 0o600); err != nil {
			return fmt.Errorf("write volume file %s: %w", name, err)
		}
		mode, uid, group := file.mode, -1, -1
		if file.uid != nil {
			uid = int(*file.uid)
		}
		if gid != nil {
			mode, group = mode|0o440, int(*gid)
		}
		if err := root.Chown(name, uid, group); err != nil {
			return fmt.Errorf("write volume file %s: %w", name, err)
		}
		if err := root.Chmod(name, mode); err != nil {
			return fmt.Errorf("write volume file %s: %w", name, err)
		}
	}
	return nil
}

// linkNames makes NAME -> ..data/NAME for the first component of every path, and removes other links.
func linkNames(dir string, files map[string]volumeFile) error {
	wanted := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		wanted[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		if wanted[entry.Name()] {
			delete(wanted, entry.Name())
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	for name := range wanted {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

func sameContent(dir string, files map[string]volumeFile) bool {
	count := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, ok := files[name]
		if !ok {
			return fs.ErrNotExist
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(data, want.data) {
			return fs.ErrInvalid
		}
		count++
		return nil
	})
	return err == nil && count == len(files)
}
