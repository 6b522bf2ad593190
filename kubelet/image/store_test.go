package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

func testImage(t *testing.T, layers ...[]tar.Header) v1.Image {
	t.Helper()
	img := empty.Image
	for _, headers := range layers {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, h := range headers {
			content := ""
			if h.Typeflag == tar.TypeReg {
				content = "content of " + h.Name
				h.Size = int64(len(content))
			}
			if h.Mode == 0 {
				h.Mode = 0o755
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	img, err := mutate.Config(img, v1.Config{Entrypoint: []string{"/bin/sh"}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestNormalize(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for in, want := range map[string]string{
		"busybox":                          "docker.io/library/busybox:latest",
		"busybox:1.36":                     "docker.io/library/busybox:1.36",
		"user/app":                         "docker.io/user/app:latest",
		"docker.io/library/busybox":        "docker.io/library/busybox:latest",
		"localhost:5000/app:1":             "localhost:5000/app:1",
		"registry.example/a/b/c@" + digest: "registry.example/a/b/c@" + digest,
	} {
		got, err := Normalize(in)
		if err != nil || got != want {
			t.Errorf("Normalize(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "UPPER/case", "a b", "x:tag:tag"} {
		if got, err := Normalize(bad); err == nil {
			t.Errorf("Normalize(%q) = %q, want an error", bad, got)
		}
	}
}

func TestImportUnpacksLayers(t *testing.T) {
	store, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	img := testImage(t,
		[]tar.Header{
			{Name: "bin/", Typeflag: tar.TypeDir},
			{Name: "bin/tool", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 7, Gid: 8},
			{Name: "bin/link", Typeflag: tar.TypeSymlink, Linkname: "/bin/tool"},
			{Name: "bin/hard", Typeflag: tar.TypeLink, Linkname: "bin/tool"},
			{Name: "etc/old", Typeflag: tar.TypeReg},
		},
		[]tar.Header{
			{Name: "etc/.wh.old", Typeflag: tar.TypeReg},
			{Name: "bin/.wh..wh..opq", Typeflag: tar.TypeReg},
		})
	if err := store.Import("tools", img); err != nil {
		t.Fatal(err)
	}
	got, err := store.Get("docker.io/library/tools:latest")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Layers) != 2 || got.Config.Entrypoint[0] != "/bin/sh" {
		t.Fatalf("unexpected record: %+v", got)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(got.Layers[0], "bin/tool"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Uid != 7 || st.Gid != 8 || st.Mode&0o7777 != 0o4755 || st.Nlink != 2 {
		t.Errorf("bin/tool has uid %d gid %d mode %o links %d, want 7 8 4755 2", st.Uid, st.Gid, st.Mode&0o7777, st.Nlink)
	}
	if err := unix.Lstat(filepath.Join(got.Layers[1], "etc/old"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout of etc/old has mode %o device %d, want character device 0:0", st.Mode, st.Rdev)
	}
	value := make([]byte, 8)
	n, err := unix.Getxattr(filepath.Join(got.Layers[1], "bin"), xattrOpaque, value)
	if err != nil || string(value[:n]) != "y" {
		t.Errorf("opaque attribute of bin = %q, %v", value[:max(n, 0)], err)
	}
	if _, err := store.Get("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a missing image: %v, want ErrNotFound", err)
	}
}

func TestUnpackRefusesPathsThatLeave(t *testing.T) {
	outside := t.TempDir()
	for name, headers := range map[string][]tar.Header{
		"dot dot":      {{Name: "../evil", Typeflag: tar.TypeReg}},
		"through link": {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "out/evil", Typeflag: tar.TypeReg}},
		"hard link":    {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "evil", Typeflag: tar.TypeLink, Linkname: "out/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Import("evil", testImage(t, headers)); err == nil {
				t.Error("import succeeded")
			}
			if entries, _ := os.ReadDir(outside); len(entries) > 0 {
				t.Errorf("the archive wrote %v outside of its layer", entries)
			}
			if _, err := store.Get("evil"); !errors.Is(err, ErrNotFound) {
				t.Errorf("broken image has a name: %v", err)
			}
		})
	}
}

func TestLoadArchives(t *testing.T) {
	img := testImage(t, []tar.Header{{Name: "a", Typeflag: tar.TypeReg}})
	dir := t.TempDir()
	docker := filepath.Join(dir, "docker.tar")
	tags := map[name.Tag]v1.Image{} // docker save one:v1 one:v2
	for _, ref := range []string{"example.com/one:v1", "example.com/one:v2"} {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = img
	}
	if err := tarball.MultiWriteToFile(docker, tags); err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci")
	path, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	named := layout.WithAnnotations(map[string]string{annotationImageName: "example.com/two:v2"})
	if err := path.AppendImage(img, named); err != nil {
		t.Fatal(err)
	}
	ociTar := filepath.Join(dir, "oci.tar")
	archiveDir(t, oci, ociTar)
	for file, want := range map[string][]string{
		docker: {"example.com/one:v1", "example.com/one:v2"}, oci: {"example.com/two:v2"}, ociTar: {"example.com/two:v2"},
	} {
		store, err := Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		refs, err := store.Load(t.Context(), file)
		slices.Sort(refs) // the archive has them in any order
		if err != nil || !slices.Equal(refs, want) {
			t.Errorf("Load(%s) = %v, %v; want %s", file, refs, err, want)
			continue
		}
		for _, ref := range want {
			if img, err := store.Get(ref); err != nil || !img.Pinned {
				t.Errorf("%s: pinned %v, %v", ref, img.Pinned, err)
			}
		}
	}
}

func archiveDir(t *testing.T, dir, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPullFromRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	host, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	img := testImage(t, []tar.Header{{Name: "a", Typeflag: tar.TypeReg}})
	ref, err := name.ParseReference(host.Host + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	store, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := store.Pull(t.Context(), ref.String(), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if img, err := store.Get(host.Host + "/app@" + pulled.Digest); err != nil || img.Pinned {
		t.Errorf("pulled image by its digest: pinned %v, %v", img.Pinned, err)
	}
	if _, err := store.Pull(t.Context(), host.Host+"/absent:v1", PullOptions{}); err == nil {
		t.Error("pull of a missing image succeeded")
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add("busybox")
	f.Add("a/b@sha256:00")
	f.Fuzz(func(t *testing.T, ref string) {
		full, err := Normalize(ref)
		if err != nil {
			return
		}
		if again, err := Normalize(full); err != nil || again != full {
			t.Errorf("Normalize(%q) = %q, again %q, %v", ref, full, again, err)
		}
	})
}
