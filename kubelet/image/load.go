package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Annotations in an OCI layout's index which name an image: containerd writes the full name, the
// specification has the tag only.
const (
	annotationImageName = "io.containerd.image.name"
	annotationRefName   = "org.opencontainers.image.ref.name"
)

// Load brings in the images of a file: an archive of docker save, an OCI archive, or a directory in
// OCI layout. It returns all names under which they can be used now. They are pinned: no registry is
// known that has them.
func (s *Store) Load(ctx context.Context, file string) ([]string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	if info.IsDir() {
		return s.loadLayout(ctx, file)
	}
	kind, err := archiveKind(file)
	if err != nil {
		return nil, fmt.Errorf("load image %s: %w", file, err)
	}
	if kind == dockerArchive {
		return s.loadDocker(ctx, file)
	}
	dir, done, err := s.workDir()
	if err != nil {
		return nil, fmt.Errorf("load image %s: %w", file, err)
	}
	defer done()
	if err := extractLayout(dir, file); err != nil {
		return nil, fmt.Errorf("load image %s: %w", file, err)
	}
	return s.loadLayout(ctx, dir)
}

type archive int

const (
	dockerArchive archive = iota
	ociArchive
)

// archiveKind looks for the file which tells the two apart: manifest.json (docker save; newer
// versions of docker write both) or index.json (OCI alone).
func archiveKind(file string) (archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	found := false
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("not a tar archive: %w", err)
		}
		switch filepath.Clean(header.Name) {
		case "manifest.json":
			return dockerArchive, nil
		case "index.json":
			found = true
		}
	}
	if !found {
		return 0, errors.New("neither manifest.json (docker save) nor index.json (OCI layout) is in it")
	}
	return ociArchive, nil
}

func (s *Store) loadDocker(ctx context.Context, file string) ([]string, error) {
	open := func() (io.ReadCloser, error) { return os.Open(file) }
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("read manifest of %s: %w", file, err)
	}
	var loaded []string
	for _, entry := range manifest {
		if err := ctx.Err(); err != nil {
			return loaded, err
		}
		if len(entry.RepoTags) == 0 {
			return loaded, fmt.Errorf("load image %s: the archive names no image; save it with its name", file)
		}
		img, err := dockerImage(open, entry.RepoTags[0])
		if err != nil {
			return loaded, fmt.Errorf("load image %s: %w", entry.RepoTags[0], err)
		}
		if _, err := s.add(entry.RepoTags, img, true); err != nil {
			return loaded, err
		}
		names, err := normalizeAll(entry.RepoTags)
		if err != nil {
			return loaded, err
		}
		loaded = append(loaded, names...)
	}
	return loaded, nil
}

func (s *Store) loadLayout(ctx context.Context, dir string) ([]string, error) {
	path, err := layout.FromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", dir, err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", dir, err)
	}
	var loaded []string
	for _, desc := range manifest.Manifests {
		if err := ctx.Err(); err != nil {
			return loaded, err
		}
		ref := layoutName(desc)
		if ref == "" {
			return loaded, fmt.Errorf("load image %s: its index names no image (annotation %s)", dir, annotationRefName)
		}
		img, err := pickImage(index, desc)
		if err != nil {
			return loaded, fmt.Errorf("load image %s: %w", ref, err)
		}
		record, err := s.add([]string{ref}, img, true)
		if err != nil {
			return loaded, err
		}
		loaded = append(loaded, record.Ref)
	}
	return loaded, nil
}

func layoutName(desc v1.Descriptor) string {
	if full := desc.Annotations[annotationImageName]; full != "" {
		return full
	}
	return desc.Annotations[annotationRefName]
}

// pickImage returns the image of a descriptor; of a multi-platform index the one for this machine.
func pickImage(index v1.ImageIndex, desc v1.Descriptor) (v1.Image, error) {
	if !desc.MediaType.IsIndex() {
		return index.Image(desc.Digest)
	}
	inner, err := index.ImageIndex(desc.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := inner.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, candidate := range manifest.Manifests {
		if match.Platforms(platform())(candidate) {
			return inner.Image(candidate.Digest)
		}
	}
	return nil, fmt.Errorf("no image for %s", platform())
}

// extractLayout unpacks an OCI archive. Blobs are plain files; nothing else belongs into it.
func extractLayout(dir, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := extractFile(root, strings.TrimPrefix(filepath.Clean("/"+header.Name), "/"), r); err != nil {
			return err
		}
	}
}

func extractFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), fs.FileMode(0o755)); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
