package machine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/podarium/podarium/kubelet/image"
)

// The images every cluster has, made from what lies on the machine: no registry
// is asked. The tags are not "latest", for which Kubernetes would always pull.
const (
	PodariumImage      = "podarium:1.37"
	BusyboxImage       = "busybox:1"
	SimpleserviceImage = "simpleservice:0.5.0"
)

// localImage tells how one of them is made.
type localImage struct {
	ref   string
	files func(programs string) ([]file, error)
	cmd   []string
}

var localImages = []localImage{
	{PodariumImage, podariumFiles, []string{"/kube-dns"}},
	{SimpleserviceImage, simpleserviceFiles, []string{"/simpleservice"}},
	{BusyboxImage, busyboxFiles, []string{"sh"}},
}

// file is an entry of a layer: a program or text, a link, or a folder.
type file struct {
	name    string
	mode    int64
	content []byte
	link    string
}

// MakeImages puts the local images into the store at root, made from the folder
// which holds podarium and the programs beside it.
func MakeImages(root, programs string) error {
	store, err := image.Open(root)
	if err != nil {
		return err
	}
	for _, local := range localImages {
		files, err := local.files(programs)
		if err != nil {
			return fmt.Errorf("make image %s: %w", local.ref, err)
		}
		img, err := buildImage(files, local.cmd)
		if err != nil {
			return fmt.Errorf("make image %s: %w", local.ref, err)
		}
		if err := store.Import(local.ref, img); err != nil {
			return fmt.Errorf("make image %s: %w", local.ref, err)
		}
	}
	return nil
}

// podariumFiles: cluster DNS, under the component's field name, so that `ps` in
// the pod shows kube-dns.
func podariumFiles(programs string) ([]file, error) {
	binary, err := os.ReadFile(filepath.Join(programs, "podarium-dns"))
	if err != nil {
		return nil, err
	}
	return []file{
		{name: "kube-dns", mode: 0o755, content: binary},
		{name: "etc/", mode: 0o755},
		{name: "tmp/", mode: 0o1777},
	}, nil
}

// simpleserviceFiles takes the example server that was built beside podarium.
func simpleserviceFiles(programs string) ([]file, error) {
	binary, err := os.ReadFile(filepath.Join(programs, "simpleservice"))
	if err != nil {
		return nil, err
	}
	return []file{{name: "simpleservice", mode: 0o755, content: binary}, {name: "etc/", mode: 0o755}}, nil
}

// busyboxFiles: the machine's static busybox with a link for each applet.
func busyboxFiles(string) ([]file, error) {
	path, err := findBusybox()
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its applets: %w", path, err)
	}
	files := []file{
		{name: "bin/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "root/", mode: 0o700},
		{name: "tmp/", mode: 0o1777},
		{name: "var/", mode: 0o755},
		{name: "var/www/", mode: 0o755},
		{name: "bin/busybox", mode: 0o755, content: binary},
		{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nnogroup:x:65534:\n")},
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			files = append(files, file{name: "bin/" + applet, link: "busybox"})
		}
	}
	return files, nil
}

// buildImage makes an image of one uncompressed layer: it never leaves the
// machine, so compressing it would only cost time.
func buildImage(files []file, cmd []string) (v1.Image, error) {
	layer, err := tarball(files)
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer, types.OCIUncompressedLayer))
	if err != nil {
		return nil, fmt.Errorf("append layer: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image config: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Cmd = cmd
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/"}
	return mutate.ConfigFile(img, config)
}

func tarball(files []file) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		switch {
		case f.link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.link, 0o777
		case strings.HasSuffix(f.name, "/"):
			header.Typeflag = tar.TypeDir
		}
		err := w.WriteHeader(header)
		if err == nil {
			_, err = io.Copy(w, bytes.NewReader(f.content))
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write %s into layer: %w", f.name, err), w.Close())
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("close layer: %w", err)
	}
	return buf.Bytes(), nil
}
