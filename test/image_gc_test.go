package test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// TestImageGarbageCollection: the images of a lab with two nodes are on a small file system of their own, and it
// fills up. What no container of either node uses goes, but not what is pinned, and comes again when it is wanted.
func TestImageGarbageCollection(t *testing.T) {
	g := newImageLab(t, "test-image-gc", 256<<20)
	host := startRegistry(t, "")
	hello := helloImage(t)
	for image, megabytes := range map[string]int64{"idle": 40, "spare": 2, "here": 2, "there": 2} {
		ref, err := name.ParseReference(host + "/" + image + ":1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, withBallast(t, hello, megabytes<<20)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, g.home, g.bin, "image", "load", "--name", g.lab, saveImage(t, withBallast(t, hello, 1<<20), "loaded:1"))
	g.start(host, "here", "node-1")
	g.start(host, "there", "node-2")
	for _, image := range []string{"idle", "spare"} {
		g.start(host, image, "node-1")
		g.kubectl("delete", "pod", image, "--now")
	}
	g.await("the images in status.images", func() bool { return strings.Contains(g.nodeImages("node-2"), host+"/idle:1") })

	// Above 85 % it begins, and ends at 80 %: 10 % are 26 MB, which the image unused for longest has.
	g.ageImages()
	g.fill(90)
	g.restartKubelet("node-1")
	g.await("no image idle", func() bool { return !strings.Contains(g.images(), "/idle:1") })
	g.await("none in status.images", func() bool { return !strings.Contains(g.nodeImages("node-2"), "/idle:1") })
	g.wantImages("/here:1", "/there:1", "/spare:1", "loaded:1", "podarium:1.37", "busybox:1", "simpleservice:0.5.0")
	if used := g.usedPercent(); used >= 82 {
		t.Errorf("%d %% are used afterwards", used)
	}

	// The kubelet of node-2 has said nothing for days; its container runs.
	g.node("node-2", `kill -STOP $(pgrep -x -f "kubelet .*")`)
	g.node("node-1", "touch -d '3 days ago' /var/lib/podarium/images/uses/*")
	g.fill(95)
	g.restartKubelet("node-1")
	g.await("an event", func() bool {
		events := g.kubectl("get", "events", "-o", "wide", "--field-selector", "involvedObject.kind=Node,reason=FreeDiskSpaceFailed")
		return regexp.MustCompile(`Warning +FreeDiskSpaceFailed +node/node-1 +kubelet, node-1 +Insufficient free disk space on the node's image filesystem \(\d+% of 256\.0 MiB used\)\. ` +
			`Failed to free sufficient space by deleting unused images \(freed \d+ bytes\)\. Investigate disk usage`).MatchString(events)
	})
	if out := g.kubectl("describe", "node", "node-1"); !strings.Contains(out, "FreeDiskSpaceFailed") {
		t.Errorf("describe node does not show the event:\n%s", out)
	}
	g.node("node-2", `kill -CONT $(pgrep -x -f "kubelet .*")`)
	if images := g.images(); strings.Contains(images, "/spare:1") {
		t.Errorf("spare is still there:\n%s", images)
	}
	g.wantImages("/here:1", "/there:1", "loaded:1", "podarium:1.37", "busybox:1", "simpleservice:0.5.0")
	for _, pod := range []string{"here", "there"} {
		g.kubectl("exec", pod, "--", "/bin/busybox", "test", "-s", "/ballast")
	}

	g.fill(0)
	g.start(host, "idle", "node-2")
	if events := g.kubectl("get", "events", "--field-selector", "involvedObject.name=idle"); strings.Count(events, "Successfully pulled image") != 2 {
		t.Errorf("idle was not pulled again:\n%s", events)
	}
}

// imageLab is a lab whose images are on a file system of their own.
type imageLab struct {
	*testing.T
	bin, home, lab, disk string
}

func newImageLab(t *testing.T, lab string, size int64) imageLab {
	t.Helper()
	g := imageLab{t, podarium(t), t.TempDir(), lab, t.TempDir()}
	run(t, g.home, g.bin, "down", "--name", lab)
	if err := unix.Mount("tmpfs", g.disk, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(g.disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { run(t, g.home, g.bin, "down", "--name", lab) })
	dir := filepath.Join("/var/lib/podarium", lab)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(g.disk, filepath.Join(dir, "images")); err != nil {
		t.Fatal(err)
	}
	run(t, g.home, g.bin, "up", "--name", lab, "--nodes", "2")
	return g
}

func (g imageLab) kubectl(args ...string) string {
	g.Helper()
	cmd := exec.Command(g.bin, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/var/lib/podarium/"+g.lab+"/admin.conf")
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.Fatalf("kubectl %v: %v: %s", args, err, out)
	}
	return string(out)
}

// start starts a pod of an image of the same name on a node.
func (g imageLab) start(host, image, node string) {
	g.Helper()
	g.kubectl("run", image, "--image="+host+"/"+image+":1", `--overrides={"spec":{"nodeName":"`+node+`"}}`, "--command", "--", "/bin/busybox", "sleep", "3600")
	g.kubectl("wait", "--for=condition=Ready", "pod/"+image, "--timeout=30s")
}

// node runs a script on a node.
func (g imageLab) node(node, script string) {
	g.Helper()
	run(g, g.home, g.bin, "node", "--name", g.lab, "exec", node, "--", "sh", "-c", script)
}

// restartKubelet: a new kubelet looks at the disk at once, and then every five minutes.
func (g imageLab) restartKubelet(node string) {
	g.Helper()
	g.node(node, `kill -9 $(pgrep -x -f "kubelet .*")`)
}

func (g imageLab) images() string {
	g.Helper()
	return run(g, g.home, g.bin, "image", "list", "--name", g.lab)
}

func (g imageLab) wantImages(names ...string) {
	g.Helper()
	images := g.images()
	for _, name := range names {
		if !strings.Contains(images, name) {
			g.Errorf("image %s is gone:\n%s", name, images)
		}
	}
}

func (g imageLab) nodeImages(node string) string {
	g.Helper()
	return g.kubectl("get", "node", node, "-o", "jsonpath={.status.images[*].names}")
}

// ageImages makes all images an hour old: new ones are not removed.
func (g imageLab) ageImages() {
	g.Helper()
	records, err := filepath.Glob(filepath.Join(g.disk, "images", "*.json"))
	if err != nil || len(records) == 0 {
		g.Fatalf("no images in %s: %v", g.disk, err)
	}
	added := regexp.MustCompile(`"added": "[^"]*"`)
	for _, path := range records {
		info, err := os.Stat(path)
		if err != nil {
			g.Fatal(err)
		}
		record, err := os.ReadFile(path)
		if err != nil {
			g.Fatal(err)
		}
		old := `"added": "` + time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) + `"`
		if err := os.WriteFile(path, added.ReplaceAll(record, []byte(old)), 0o644); err != nil {
			g.Fatal(err)
		}
		if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil { // the last use
			g.Fatal(err)
		}
	}
}

// fill makes a file in the images' file system so large that this many percent are used.
func (g imageLab) fill(percent uint64) {
	g.Helper()
	path := filepath.Join(g.disk, "somebody-else")
	if err := os.RemoveAll(path); err != nil || percent == 0 {
		if err != nil {
			g.Fatal(err)
		}
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(g.disk, &fs); err != nil {
		g.Fatal(err)
	}
	free := fs.Bavail - fs.Blocks*(100-percent)/100
	f, err := os.Create(path)
	if err != nil {
		g.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(free)*fs.Bsize); err != nil {
		g.Fatal(err)
	}
}

func (g imageLab) usedPercent() uint64 {
	g.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(g.disk, &fs); err != nil {
		g.Fatal(err)
	}
	return 100 - fs.Bavail*100/fs.Blocks
}

func (g imageLab) await(what string, done func() bool) {
	g.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if done() {
			return
		}
	}
	g.Fatalf("waited in vain for %s; the images are:\n%s", what, g.images())
}

// withBallast adds a layer with one file of random content, which nothing else shares.
func withBallast(t *testing.T, img v1.Image, size int64) v1.Image {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "ballast", Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	return img
}
