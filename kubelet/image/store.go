package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// ErrNotFound says that the store has no image of that name.
var ErrNotFound = errors.New("image is not in the store")

// Store is a directory of unpacked images. Any number of processes may use one directory.
type Store struct {
	root string
}

// Image is one image as a container start needs it.
type Image struct {
	// Ref is the full name under which the image was looked up, docker.io/library/busybox:latest.
	Ref string `json:"-"`
	// Digest names the image: the digest of its manifest, sha256:….
	Digest string `json:"digest"`
	// ConfigDigest is the digest of the configuration, Docker's image ID.
	ConfigDigest string `json:"configDigest"`
	// Size is the size of all unpacked layers in bytes.
	Size int64 `json:"size"`
	// Created is when the image was built, as it says itself.
	Created time.Time `json:"created"`
	// Added is when it came into this store, at the last time.
	Added time.Time `json:"added,omitzero"`
	// Pinned protects the image from Collect as long as it has a name: no registry has it.
	Pinned bool `json:"pinned,omitempty"`
	// Config is what a container gets when the pod does not say otherwise: entrypoint, env, user.
	Config v1.Config `json:"config"`
	// Layers are the directories of the unpacked layers, bottom first.
	Layers []string `json:"layers"`
}

// Open opens the store in the directory root, which is made when it is not there.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	for _, dir := range []string{"images", "layers", "uses", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return nil, fmt.Errorf("open image store %s: %w", root, err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open image store %s: %w", root, err)
	}
	lock.Close()
	return &Store{root: root}, nil
}

// Get finds an image by the name that a pod gives it, or ErrNotFound. It accepts a digest or an
// image ID (sha256:…) too.
func (s *Store) Get(ref string) (Image, error) {
	if strings.HasPrefix(ref, "sha256:") {
		return s.getByID(ref)
	}
	full, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	index, err := s.readIndex()
	if err != nil {
		return Image{}, err
	}
	digest, ok := index[full]
	if !ok {
		return Image{}, fmt.Errorf("get image %q: %w", ref, ErrNotFound)
	}
	return s.read(full, digest)
}

func (s *Store) getByID(id string) (Image, error) {
	all, err := s.List()
	if err != nil {
		return Image{}, err
	}
	for _, img := range all {
		if img.ConfigDigest == id || img.Digest == id {
			return img, nil
		}
	}
	return Image{}, fmt.Errorf("get image %q: %w", id, ErrNotFound)
}

// List returns all names with their images, sorted by name.
func (s *Store) List() ([]Image, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(index))
	for ref, digest := range index {
		img, err := s.read(ref, digest)
		if errors.Is(err, ErrNotFound) {
			continue // removed since the index was read
		}
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	slices.SortFunc(images, func(a, b Image) int { return strings.Compare(a.Ref, b.Ref) })
	return images, nil
}

// Import unpacks an image which no registry has, and gives it the name ref. Layers which another image
// brought are kept.
func (s *Store) Import(ref string, img v1.Image) error {
	_, err := s.add([]string{ref}, img, true)
	return err
}

// add unpacks what is missing of img, then writes its record, then its names: a name never points
// at something that is not whole.
func (s *Store) add(refs []string, img v1.Image, pinned bool) (Image, error) {
	names, err := normalizeAll(refs)
	if err != nil {
		return Image{}, err
	}
	record, err := describe(img)
	if err != nil {
		return Image{}, fmt.Errorf("read image %s: %w", names[0], err)
	}
	record.Ref, record.Pinned = names[0], pinned
	work, done, err := s.workDir()
	if err != nil {
		return Image{}, fmt.Errorf("unpack image %s: %w", names[0], err)
	}
	defer done()
	for {
		if err := s.unpackMissing(work, &record, img); err != nil {
			return Image{}, fmt.Errorf("unpack image %s: %w", names[0], err)
		}
		// A layer which was there a moment ago may have gone with the last image that needed it.
		if err := s.publish(names, &record); !errors.Is(err, errLayerGone) {
			return record, err
		}
	}
}

// describe is an image's record without its layers.
func describe(img v1.Image) (Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("configuration: %w", err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("digest: %w", err)
	}
	configDigest, err := img.ConfigName()
	if err != nil {
		return Image{}, fmt.Errorf("configuration digest: %w", err)
	}
	return Image{
		Digest: digest.String(), ConfigDigest: configDigest.String(),
		Created: config.Created.Time, Config: config.Config,
	}, nil
}

// unpackMissing brings all layers of an image into the store, and notes them in its record.
func (s *Store) unpackMissing(work string, record *Image, img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("it has %d layers but %d diff IDs", len(layers), len(config.RootFS.DiffIDs))
	}
	record.Layers, record.Size = nil, 0
	for i, layer := range layers {
		dir, size, err := s.addLayer(work, config.RootFS.DiffIDs[i], layer)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
		record.Layers = append(record.Layers, dir)
		record.Size += size
	}
	return nil
}

// errLayerGone says that a layer was removed before the record was written which needs it.
var errLayerGone = errors.New("layer is gone")

// publish writes an image's record, then its names. Under the lock, so that no layer can go from now on.
func (s *Store) publish(names []string, record *Image) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, dir := range record.Layers {
		if _, ok := layerSize(dir); !ok {
			return errLayerGone
		}
	}
	if old, err := s.read(names[0], record.Digest); err == nil && old.Pinned {
		record.Pinned = true // pulled now, loaded once
	}
	record.Added = time.Now().UTC()
	if err := writeJSON(s.recordPath(record.Digest), relative(*record)); err != nil {
		return fmt.Errorf("write image %s: %w", names[0], err)
	}
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	for _, name := range names {
		index[name] = record.Digest
	}
	return s.writeIndex(index)
}

// relative replaces layer directories by their names, so that an image root can be mounted elsewhere.
func relative(img Image) Image {
	img.Layers = slices.Clone(img.Layers)
	for i, dir := range img.Layers {
		img.Layers[i] = filepath.Base(dir)
	}
	return img
}

func (s *Store) read(ref, digest string) (Image, error) {
	data, err := os.ReadFile(s.recordPath(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, fmt.Errorf("read image %s: %w", ref, ErrNotFound)
	}
	if err != nil {
		return Image{}, fmt.Errorf("read image %s: %w", ref, err)
	}
	img := Image{Ref: ref}
	if err := json.Unmarshal(data, &img); err != nil {
		return Image{}, fmt.Errorf("read image %s: %w", ref, err)
	}
	for i, name := range img.Layers {
		img.Layers[i] = filepath.Join(s.root, "layers", filepath.Base(name))
	}
	return img, nil
}

func (s *Store) recordPath(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return filepath.Join(s.root, "images", hex+".json")
}

func (s *Store) readIndex() (map[string]string, error) {
	index := map[string]string{}
	data, err := os.ReadFile(filepath.Join(s.root, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read image index: %w", err)
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("read image index %s: %w", filepath.Join(s.root, "index.json"), err)
	}
	return index, nil
}

// writeIndex is called with the lock held.
func (s *Store) writeIndex(index map[string]string) error {
	if err := writeJSON(filepath.Join(s.root, "index.json"), index); err != nil {
		return fmt.Errorf("write image index: %w", err)
	}
	return nil
}

// lock is for whoever changes the index, records, marks or the list of layers. It is held for
// milliseconds: what takes time, unpacking and deleting, is done in tmp/ without it.
func (s *Store) lock() (unlock func(), err error) {
	f, err := lockFile(filepath.Join(s.root, "lock"), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock image store: %w", err)
	}
	return func() { f.Close() }, nil
}

// lockFile takes a flock(2) on a file or directory; closing it, or dying, gives it back.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// workDir makes a directory in tmp/ and holds a lock on it: what nobody holds there is left over.
func (s *Store) workDir() (dir string, done func(), err error) {
	unlock, err := s.lock() // or a collector finds it before it is held
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	dir, err = os.MkdirTemp(filepath.Join(s.root, "tmp"), "new-")
	if err != nil {
		return "", nil, err
	}
	held, err := lockFile(dir, unix.LOCK_SH)
	if err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir); held.Close() }, nil
}

// writeJSON replaces a file in one step: readers see the old text or the new one, never half of it.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(append(data, '\n')); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
