package kubelet

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	layertypes "github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// TestExcess: parts of a percent in use count as one, as upstream counts.
func TestExcess(t *testing.T) {
	p := ImageGCPolicy{HighThreshold: 85, LowThreshold: 80}
	for available, want := range map[int64]int64{1000: 0, 160: 0, 151: 49, 150: 50, 20: 180, 0: 200} {
		if got := p.excess(disk{capacity: 1000, available: available}); got != want {
			t.Errorf("%d of 1000 are free: %d have to go, want %d", available, got, want)
		}
	}
	never := ImageGCPolicy{HighThreshold: 100, LowThreshold: 80}
	if got := never.excess(disk{capacity: 1000}); got != 0 {
		t.Errorf("with 100 %% allowed %d bytes have to go", got)
	}
}

func TestBinarySize(t *testing.T) {
	for bytes, want := range map[int64]string{1023: "1023 B", 1024: "1.0 KiB", 100 << 20: "100.0 MiB", 10 << 30: "10.0 GiB", 3 << 50: "3072.0 TiB"} {
		if got := binarySize(bytes); got != want {
			t.Errorf("%d is %s, want %s", bytes, got, want)
		}
	}
}

func TestNodeImages(t *testing.T) {
	images := []image.Image{ // as the store lists them, by name
		{Ref: "docker.io/library/busybox:1", Digest: "sha256:b", Size: 2},
		{Ref: "docker.io/library/nginx:1", Digest: "sha256:n", Size: 9},
		{Ref: "docker.io/library/nginx@sha256:n", Digest: "sha256:n", Size: 9},
		{Ref: "docker.io/library/web:1", Digest: "sha256:w", Size: 2},
	}
	want := []corev1.ContainerImage{
		{Names: []string{"docker.io/library/nginx@sha256:n", "docker.io/library/nginx:1"}, SizeBytes: 9},
		{Names: []string{"docker.io/library/web:1"}, SizeBytes: 2},
		{Names: []string{"docker.io/library/busybox:1"}, SizeBytes: 2},
	}
	if diff := cmp.Diff(want, nodeImages(images)); diff != "" {
		t.Error(diff)
	}
	var many []image.Image
	for i := range 60 {
		for tag := range 6 {
			many = append(many, image.Image{Ref: fmt.Sprintf("x/%d:%d", i, tag), Digest: fmt.Sprint(i), Size: int64(i)})
		}
	}
	got := nodeImages(many)
	if len(got) != 50 || len(got[0].Names) != 5 || got[0].SizeBytes != 59 || got[49].SizeBytes != 10 {
		t.Errorf("%d images, the first %v, the last %v", len(got), got[0], got[len(got)-1])
	}
}

// fullDisk is a kubelet whose images are on a file system of 16 MiB, with one of 4 MiB that nobody uses.
func fullDisk(t *testing.T) (k *Kubelet, events chan string) {
	t.Helper()
	nstest.NeedRoot(t)
	dir, images := t.TempDir(), t.TempDir()
	if err := unix.Mount("tmpfs", images, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(images, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	containers, err := runtime.New(dir, filepath.Join(dir, "run"), "/proc/self/exe", runtime.LogLimits{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := image.Open(images)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "pods"), 0o755); err != nil {
		t.Fatal(err)
	}
	recorder := record.NewFakeRecorder(9)
	return &Kubelet{
		cfg:     Config{NodeName: "node-1", RootDir: dir, ImageRoot: images, ImageGC: ImageGCPolicy{HighThreshold: 85, LowThreshold: 80}},
		runtime: containers, images: store, recorder: recorder, found: map[types.UID]*leftover{},
	}, recorder.Events
}

// fill leaves this many bytes of a file system.
func fill(t *testing.T, dir string, left int64) {
	t.Helper()
	path := filepath.Join(dir, "somebody-else")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-left); err != nil {
		t.Fatal(err)
	}
}

// pull brings an image with a file of that many bytes from a registry.
func pull(t *testing.T, k *Kubelet, repository string, size int) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	layer, err := random.Layer(int64(size), layertypes.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	if _, err := k.images.Pull(t.Context(), ref.String(), image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// TestImagesGoWhenDiskIsFull: from a kubelet which is killed after it marked an image to the one that removes it.
func TestImagesGoWhenDiskIsFull(t *testing.T) {
	k, events := fullDisk(t)
	ref := pull(t, k, "app:1", 4<<20)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	c := &corev1.Container{Name: "nginx", Image: ref}
	has := func() bool { _, err := k.images.Get(ref); return err == nil }
	if err := k.collectOnce(); err != nil || !has() {
		t.Fatalf("with room enough: %v", err)
	}
	for _, id := range []string{"half-made", "ended"} {
		if _, err := k.useImage(pod, c, id); err != nil {
			t.Fatal(err)
		}
	}
	img, err := k.images.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	ended := runtime.Record{ID: "ended", PodUID: "u", PodNamespace: "default", PodName: "web", Name: "nginx", ImageID: imageID(img), Started: time.Now()}
	if err := shim.WriteFile(k.runtime.FilePath("ended", "container.json"), ended); err != nil {
		t.Fatal(err)
	}
	fill(t, k.cfg.ImageRoot, 1<<20)
	want := "Insufficient free disk space on the node's image filesystem (94% of 16.0 MiB used). " +
		"Failed to free sufficient space by deleting unused images (freed 0 bytes). " +
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
	if err := k.collectOnce(); err == nil || err.Error() != want || !has() {
		t.Errorf("while it is used: %v, want %s", err, want)
	}
	if got := <-events; got != "Warning FreeDiskSpaceFailed "+want {
		t.Errorf("event %q", got)
	}

	// The next kubelet finds an ended container and half of one; the first keeps the image.
	if err := k.recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids, err := k.runtime.IDs()
	if err != nil || !slices.Equal(ids, []string{"ended"}) {
		t.Errorf("containers are %v, %v", ids, err)
	}
	marks, err := filepath.Glob(filepath.Join(k.cfg.ImageRoot, "uses", "*"))
	if err != nil || len(marks) != 1 || filepath.Base(marks[0]) != "ended" {
		t.Errorf("marks are %v, %v", marks, err)
	}
	if mark, err := os.ReadFile(marks[0]); err != nil || string(mark) != img.Digest+" node-1 default/web nginx\n" {
		t.Errorf("the mark says %q, %v", mark, err)
	}
	if err := k.collectOnce(); err == nil || !has() {
		t.Errorf("while it is used: %v", err)
	}
	if err := k.removeContainer(t.Context(), "ended"); err != nil {
		t.Fatal(err)
	}
	if err := k.collectOnce(); err != nil || has() {
		t.Errorf("when nobody uses it: %v", err)
	}
}
