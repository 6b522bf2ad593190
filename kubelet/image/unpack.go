package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	xattrOpaque    = "trusted.overlay.opaque"
	xattrRecord    = "SCHILY.xattr." // PAX record which carries an extended attribute
)

// addLayer unpacks one layer unless it is there already, and returns its directory and size in bytes.
func (s *Store) addLayer(work string, diffID v1.Hash, layer v1.Layer) (string, int64, error) {
	// 32 of 64 hex digits: overlayfs takes all lower directories in one mount option of at most
	// 4096 bytes, so the names must be short.
	dir := filepath.Join(s.root, "layers", diffID.Hex[:32])
	if size, ok := layerSize(dir); ok {
		return dir, size, nil
	}
	tmp, err := os.MkdirTemp(work, "layer-")
	if err != nil {
		return "", 0, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", 0, err
	}
	stream, err := layer.Uncompressed()
	if err != nil {
		return "", 0, err
	}
	defer stream.Close()
	size, err := unpackVerified(tmp, stream, diffID.Hex)
	if err != nil {
		return "", 0, err
	}
	return dir, size, s.place(tmp, dir, size)
}

// place puts an unpacked layer where it belongs. When another process was faster, ours goes with tmp/.
func (s *Store) place(tmp, dir string, size int64) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return os.WriteFile(dir+sizeSuffix, []byte(strconv.FormatInt(size, 10)+"\n"), 0o644)
}

// sizeSuffix makes the name of the file which says how large a layer is: layers/HEX.size.
const sizeSuffix = ".size"

// layerSize is false when a layer is not there, or not known to be whole.
func layerSize(dir string) (int64, bool) {
	data, err := os.ReadFile(dir + sizeSuffix)
	if err != nil {
		return 0, false
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, false
	}
	_, err = os.Stat(dir)
	return size, err == nil
}

// unpackVerified unpacks a layer and compares its content with the digest that names it.
func unpackVerified(dir string, stream io.Reader, wantHex string) (int64, error) {
	hash := sha256.New()
	tee := io.TeeReader(stream, hash)
	size, err := unpack(dir, tee)
	if err != nil {
		return 0, err
	}
	// A tar reader stops at the end marker; the padding behind it belongs to the digest.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != wantHex {
		return 0, fmt.Errorf("layer content is sha256:%s, the image says sha256:%s", got, wantHex)
	}
	return size, nil
}

// unpack writes the entries of a layer archive below dir. os.Root refuses every path which leaves
// dir, also by way of a symbolic link in the archive itself.
func unpack(dir string, stream io.Reader) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	u := unpacker{dir: dir, root: root}
	archive := tar.NewReader(stream)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return u.size, u.setDirTimes()
		}
		if err != nil {
			return 0, fmt.Errorf("read archive: %w", err)
		}
		if err := u.entry(header, archive); err != nil {
			return 0, fmt.Errorf("unpack %s: %w", header.Name, err)
		}
	}
}

type unpacker struct {
	dir  string
	root *os.Root
	size int64
	dirs []*tar.Header // their times are set last: writing into a directory changes them
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if strings.HasPrefix(path.Clean(h.Name), "../") {
		return errors.New("path leads out of the layer")
	}
	if name == "" {
		return u.attributes(".", h)
	}
	if parent := path.Dir(name); parent != "." {
		if err := u.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	base := path.Base(name)
	if base == whiteoutOpaque {
		return u.onParent(name, func(at string) error {
			return unix.Setxattr(path.Dir(at), xattrOpaque, []byte("y"), 0)
		})
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return u.whiteout(path.Join(path.Dir(name), hidden))
	}
	if err := u.create(name, h, content); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	return u.attributes(name, h)
}

func (u *unpacker) create(name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag != tar.TypeDir {
		if err := u.root.RemoveAll(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		h.Name = name
		u.dirs = append(u.dirs, h)
		return u.mkdir(name)
	case tar.TypeReg:
		return u.file(name, content)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return u.root.Link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), name)
	case tar.TypeChar:
		return u.mknod(name, unix.S_IFCHR, h.Devmajor, h.Devminor)
	case tar.TypeBlock:
		return u.mknod(name, unix.S_IFBLK, h.Devmajor, h.Devminor)
	case tar.TypeFifo:
		return u.mknod(name, unix.S_IFIFO, 0, 0)
	default:
		return fmt.Errorf("archive entry of unknown type %q", h.Typeflag)
	}
}

func (u *unpacker) mkdir(name string) error {
	info, err := u.root.Lstat(name)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		if err := u.root.Remove(name); err != nil {
			return err
		}
	}
	return u.root.Mkdir(name, 0o755)
}

func (u *unpacker) file(name string, content io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, content)
	u.size += n
	return errors.Join(err, f.Close())
}

// whiteout hides a file of the layers below: overlayfs knows it as a character device 0:0.
func (u *unpacker) whiteout(name string) error {
	if err := u.root.RemoveAll(name); err != nil {
		return err
	}
	return u.mknod(name, unix.S_IFCHR, 0, 0)
}

func (u *unpacker) mknod(name string, kind uint32, major, minor int64) error {
	return u.onParent(name, func(at string) error {
		return unix.Mknod(at, kind|0o600, int(unix.Mkdev(uint32(major), uint32(minor))))
	})
}

// onParent calls do with a path whose directory part is an open directory inside the layer, for
// system calls which os.Root does not have. No link can lead such a path out.
func (u *unpacker) onParent(name string, do func(at string) error) error {
	parent, err := u.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return do("/proc/self/fd/" + strconv.Itoa(int(parent.Fd())) + "/" + path.Base(name))
}

func (u *unpacker) attributes(name string, h *tar.Header) error {
	if err := u.root.Lchown(name, h.Uid, h.Gid); err != nil {
		return err
	}
	for record, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(record, xattrRecord)
		if !ok || strings.HasPrefix(attr, "trusted.overlay.") {
			continue
		}
		err := u.onParent(name, func(at string) error { return unix.Lsetxattr(at, attr, []byte(value), 0) })
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	if h.Typeflag == tar.TypeSymlink {
		return nil
	}
	// After chown, which clears the setuid bit.
	if err := u.root.Chmod(name, h.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	return u.root.Chtimes(name, h.ModTime, h.ModTime)
}

func (u *unpacker) setDirTimes() error {
	for _, h := range u.dirs {
		err := u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
