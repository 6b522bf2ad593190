package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// TestImages: an image comes to the nodes from a registry that only the
// machine can reach (through the egress process), and from a file.
func TestImages(t *testing.T) {
	bin, home, lab := podarium(t), t.TempDir(), "test-images"
	run(t, home, bin, "down", "--name", lab)
	t.Cleanup(func() { run(t, home, bin, "down", "--name", lab) })
	run(t, home, bin, "up", "--name", lab)
	kubectl := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"kubectl"}, args...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG=/var/lib/podarium/"+lab+"/admin.conf")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	img := helloImage(t)
	t.Run("registry", func(t *testing.T) { pullFromRegistry(t, img, kubectl) })

	t.Run("pull", func(t *testing.T) {
		ref, err := name.ParseReference(startRegistry(t, "") + "/hello:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
		kubectl("run", "pulled", "--image="+ref.String(), "--restart=Never")
		kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/pulled", "--timeout=30s")
		if out := kubectl("logs", "pulled"); out != "hello from the image\n" {
			t.Errorf("the pod says %q", out)
		}
		if events := kubectl("get", "events", "--field-selector", "involvedObject.name=pulled"); !strings.Contains(events, "Successfully pulled image \""+ref.String()+"\"") {
			t.Errorf("no event tells of the pull:\n%s", events)
		}
	})

	t.Run("load", func(t *testing.T) {
		archive := saveImage(t, img, "loaded:1", "loaded:2")
		out := strings.Split(strings.TrimSpace(run(t, home, bin, "image", "load", "--name", lab, archive)), "\n")
		slices.Sort(out)
		if want := []string{"loaded docker.io/library/loaded:1", "loaded docker.io/library/loaded:2"}; !slices.Equal(out, want) {
			t.Errorf("image load says %q, want %q", out, want)
		}
		if out := run(t, home, bin, "image", "list", "--name", lab); !strings.Contains(out, "loaded:1") || !strings.Contains(out, "busybox:1") {
			t.Errorf("image list says:\n%s", out)
		}
		kubectl("run", "loaded", "--image=loaded:1", "--restart=Never")
		kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/loaded", "--timeout=30s")
	})
}

// saveImage writes an archive as docker save does, with an image under several names.
func saveImage(t *testing.T, img v1.Image, names ...string) string {
	t.Helper()
	tags := map[name.Tag]v1.Image{}
	for _, ref := range names {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = img
	}
	archive := filepath.Join(t.TempDir(), "saved.tar")
	if err := tarball.MultiWriteToFile(archive, tags); err != nil {
		t.Fatal(err)
	}
	return archive
}

// helloImage is the machine's static busybox with something to say.
func helloImage(t *testing.T) v1.Image {
	t.Helper()
	dir := t.TempDir()
	tarPath := filepath.Join(dir, "layer.tar")
	script := "mkdir -p " + dir + "/root/bin && cp $(command -v busybox) " + dir + "/root/bin/busybox && tar -C " + dir + "/root -cf " + tarPath + " bin"
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("make layer: %v: %s", err, out)
	}
	layer, err := tarball.LayerFromFile(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", RootFS: mustRootFS(t, img),
		Config: v1.Config{Cmd: []string{"/bin/busybox", "echo", "hello from the image"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustRootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config.RootFS
}
