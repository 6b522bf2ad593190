package image

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Collect removes what is left over, then asks how many bytes are needed, and removes unused images until
// these are free: the one that was not used for longest first, and none that came less than minAge ago.
// It returns how many bytes the removed images had; fewer than needed when there was no more to remove.
func (s *Store) Collect(minAge time.Duration, needed func() (int64, error)) (int64, error) {
	// One at a time: two who see the same full disk would remove twice as much.
	turn, err := lockFile(filepath.Join(s.root, "layers"), unix.LOCK_EX)
	if err != nil {
		return 0, fmt.Errorf("collect images: %w", err)
	}
	defer turn.Close()
	if _, err := s.remove(0, minAge); err != nil {
		return 0, err
	}
	need, err := needed()
	if err != nil || need <= 0 {
		return 0, err
	}
	return s.remove(need, minAge)
}

// remove takes what has to go out of sight while it holds the lock, and deletes it afterwards. Nothing of that
// needs room, which there may be none of; only then are names written without those that lead nowhere.
func (s *Store) remove(need int64, minAge time.Duration) (int64, error) {
	p, err := s.detach(need, minAge)
	for _, path := range p.garbage {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err = errors.Join(err, s.pruneIndex()); err != nil {
		return 0, fmt.Errorf("collect images: %w", err)
	}
	return p.freed, nil
}

func (s *Store) detach(need int64, minAge time.Duration) (plan, error) {
	unlock, err := s.lock()
	if err != nil {
		return plan{}, err
	}
	defer unlock()
	seen, err := s.look()
	if err != nil {
		return plan{}, err
	}
	p := seen.plan(need, time.Now(), minAge)
	err = s.apply(&p)
	return p, err
}

// snapshot is what a decision about removal needs to know of a store.
type snapshot struct {
	images  []stored
	marks   []mark
	layers  map[string]int64 // bytes by the name of the directory
	garbage []string         // paths which nobody knows any more
	adding  bool             // somebody unpacks an image: a layer that no image has yet may be his
}

// stored is an image with its names and what is known of its use.
type stored struct {
	Image    // its layers are names, not paths
	names    []string
	lastUsed time.Time
}

// plan says what goes.
type plan struct {
	images  []stored
	marks   []string
	layers  []string
	garbage []string
	freed   int64
}

// plan removes stale marks, images which no name leads to, layers of no image, and then images until need
// bytes are free. A layer goes with the last image that has it.
func (s snapshot) plan(need int64, now time.Time, minAge time.Duration) plan {
	p := plan{garbage: s.garbage}
	used, users := map[string]bool{}, map[string]int{}
	for _, m := range s.marks {
		if m.stale(now) {
			p.marks = append(p.marks, m.id)
		} else {
			used[m.digest] = true
		}
	}
	for _, img := range s.images {
		for _, layer := range img.Layers {
			users[layer]++
		}
	}
	if !s.adding {
		for layer, size := range s.layers {
			if users[layer] == 0 {
				p.layers, p.freed = append(p.layers, layer), p.freed+size
			}
		}
	}
	drop := func(img stored) {
		p.images = append(p.images, img)
		for _, layer := range img.Layers {
			if users[layer]--; users[layer] == 0 {
				p.layers, p.freed = append(p.layers, layer), p.freed+s.layers[layer]
			}
		}
	}
	var candidates []stored
	for _, img := range s.images {
		switch {
		case used[img.Digest]:
		case len(img.names) == 0:
			drop(img)
		case !img.Pinned && now.Sub(img.Added) >= minAge:
			candidates = append(candidates, img)
		}
	}
	slices.SortFunc(candidates, func(a, b stored) int {
		return cmp.Or(a.lastUsed.Compare(b.lastUsed), a.Added.Compare(b.Added), strings.Compare(a.Digest, b.Digest))
	})
	for _, img := range candidates {
		if p.freed >= need {
			break
		}
		drop(img)
	}
	slices.Sort(p.layers)
	return p
}

// apply removes records first: an image without a record is not there, whatever names it. Then layers go out
// of sight, and to the garbage.
func (s *Store) apply(p *plan) error {
	for _, id := range p.marks {
		if err := os.Remove(s.MarkPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, img := range p.images {
		if err := os.Remove(s.recordPath(img.Digest)); err != nil {
			return err
		}
		slog.Info("Image removed", "names", img.names, "digest", img.Digest, "size", img.Size, "lastUsed", img.lastUsed)
	}
	for _, layer := range p.layers {
		dir := filepath.Join(s.root, "layers", layer)
		// The size goes first: a layer without it counts as not there.
		if err := os.Remove(dir + sizeSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		grave := filepath.Join(s.root, "tmp", fmt.Sprintf("removed-%s-%d", layer, time.Now().UnixNano()))
		if err := os.Rename(dir, grave); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.garbage = append(p.garbage, grave)
	}
	return nil
}

// pruneIndex removes the names of images which have no record any more.
func (s *Store) pruneIndex() error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	before := len(index)
	maps.DeleteFunc(index, func(_, digest string) bool {
		_, err := os.Stat(s.recordPath(digest))
		return errors.Is(err, fs.ErrNotExist)
	})
	if len(index) == before {
		return nil
	}
	return s.writeIndex(index)
}

// look reads a snapshot; the caller holds the lock.
func (s *Store) look() (snapshot, error) {
	seen := snapshot{layers: map[string]int64{}}
	var err error
	if seen.marks, err = s.marks(); err != nil {
		return seen, err
	}
	if err := s.lookAtImages(&seen); err != nil {
		return seen, err
	}
	layers, err := os.ReadDir(filepath.Join(s.root, "layers"))
	if err != nil {
		return seen, err
	}
	for _, entry := range layers { // a size without a directory is half of a removal
		name := strings.TrimSuffix(entry.Name(), sizeSuffix)
		seen.layers[name], _ = layerSize(filepath.Join(s.root, "layers", name))
	}
	return seen, s.lookAtGarbage(&seen)
}

func (s *Store) lookAtImages(seen *snapshot) error {
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	names := map[string][]string{}
	for name, digest := range index {
		names[digest] = append(names[digest], name)
	}
	entries, err := os.ReadDir(filepath.Join(s.root, "images"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if half(entry) {
			seen.garbage = append(seen.garbage, filepath.Join(s.root, "images", entry.Name()))
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		img, err := s.read(entry.Name(), "sha256:"+strings.TrimSuffix(entry.Name(), ".json"))
		if err != nil {
			return err
		}
		slices.Sort(names[img.Digest])
		seen.images = append(seen.images, stored{Image: relative(img), names: names[img.Digest], lastUsed: info.ModTime()})
	}
	return nil
}

// half says that a file is one which writeJSON did not rename any more: who has the lock is the only writer.
func half(entry fs.DirEntry) bool { return strings.HasPrefix(entry.Name(), ".") }

// lookAtGarbage finds what a killed process left: half an index, and in tmp/ what nobody holds.
func (s *Store) lookAtGarbage(seen *snapshot) error {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if half(entry) {
			seen.garbage = append(seen.garbage, filepath.Join(s.root, entry.Name()))
		}
	}
	entries, err = os.ReadDir(filepath.Join(s.root, "tmp"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(s.root, "tmp", entry.Name())
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its maker is done with it
		}
		if err != nil {
			return err
		}
		held, err := isHeld(f)
		f.Close()
		if err != nil {
			return err
		}
		if held {
			seen.adding = true
		} else {
			seen.garbage = append(seen.garbage, path)
		}
	}
	return nil
}
