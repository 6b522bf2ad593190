package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// forgetAfter is how long a container's mark counts when nobody holds it and nobody says that the
// container is still there.
const forgetAfter = 24 * time.Hour

// mark is one file in uses/: a container, by the name of the file, uses an image.
type mark struct {
	id, digest string
	held       bool      // by the container's shim, which lives: the container runs
	seen       time.Time // when its kubelet last said that there is such a container
}

// stale says that the container's node is gone, or that a kubelet was killed before it made the container.
func (m mark) stale(now time.Time) bool { return !m.held && now.Sub(m.seen) > forgetAfter }

// Use finds an image as Get does, and marks it in the same step as used by a container, until Drop. by
// tells people who the container is.
func (s *Store) Use(ref, id, by string) (Image, error) {
	unlock, err := s.lock()
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	img, err := s.Get(ref)
	if err != nil {
		return Image{}, err
	}
	if err := s.mark(id, img.Digest, by); err != nil {
		return Image{}, err
	}
	return img, s.touch(img.Digest)
}

// Mark notes that a container which is there already uses an image.
func (s *Store) Mark(id, digest, by string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return s.mark(id, digest, by)
}

func (s *Store) mark(id, digest, by string) error {
	// Written in place: the container's shim may hold a lock on this very file.
	if err := os.WriteFile(s.MarkPath(id), []byte(digest+" "+by+"\n"), 0o644); err != nil {
		return fmt.Errorf("mark image as used: %w", err)
	}
	return nil
}

// MarkPath is the file on which the shim of a container holds a shared lock while the container runs.
func (s *Store) MarkPath(id string) string { return filepath.Join(s.root, "uses", id) }

// Seen says that containers are still there, running or not.
func (s *Store) Seen(ids []string) error {
	now := time.Now()
	for _, id := range ids {
		if err := os.Chtimes(s.MarkPath(id), now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep mark of image: %w", err)
		}
	}
	return nil
}

// Drop takes a container's mark away: the container is removed.
func (s *Store) Drop(id string) error {
	data, err := os.ReadFile(s.MarkPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop mark of image: %w", err)
	}
	digest, _, _ := strings.Cut(string(data), " ")
	if err := s.touch(digest); err != nil {
		return err
	}
	if err := os.Remove(s.MarkPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop mark of image: %w", err)
	}
	return nil
}

// touch notes that an image is in use at this moment: as the time of its record.
func (s *Store) touch(digest string) error {
	now := time.Now()
	if err := os.Chtimes(s.recordPath(digest), now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note use of image: %w", err)
	}
	return nil
}

func (s *Store) marks() ([]mark, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "uses"))
	if err != nil {
		return nil, fmt.Errorf("list uses of images: %w", err)
	}
	var marks []mark
	for _, entry := range entries {
		m, err := readMark(s.MarkPath(entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped just now
		}
		if err != nil {
			return nil, fmt.Errorf("read use of image: %w", err)
		}
		marks = append(marks, m)
	}
	return marks, nil
}

func readMark(path string) (mark, error) {
	f, err := os.Open(path)
	if err != nil {
		return mark{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return mark{}, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return mark{}, err
	}
	m := mark{id: info.Name(), seen: info.ModTime()}
	m.digest, _, _ = strings.Cut(string(data), " ")
	m.held, err = isHeld(f)
	return m, err
}

// isHeld tells whether a living process holds a lock on a file.
func isHeld(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
