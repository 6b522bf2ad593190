package test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// reader may log in with the password "secret".
const reader = "reader:$2b$04$podariumpodariumpodaruYJPpkeqtpXzywGCjiplbzXzsgkHkg/6\n"

// pullFromRegistry: by digest, out of an index for several machines, with a login;
// and what a pod says of an image that it cannot have.
func pullFromRegistry(t *testing.T, img v1.Image, kubectl func(...string) string) {
	t.Helper()
	host, closed := startRegistry(t, ""), startRegistry(t, reader)
	push := func(repository string, put func(name.Reference) error) string {
		t.Helper()
		ref, err := name.ParseReference(repository)
		if err == nil {
			err = put(ref)
		}
		if err != nil {
			t.Fatal(err)
		}
		return ref.String()
	}
	login := remote.WithAuth(&authn.Basic{Username: "reader", Password: "secret"})
	foreign := withArchitecture(t, img, "s390x")
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	plain := push(host+"/open/hello:1", func(r name.Reference) error { return remote.Write(r, img) })
	private := push(closed+"/private/hello:1", func(r name.Reference) error { return remote.Write(r, img, login) })
	arm := push(host+"/open/foreign:1", func(r name.Reference) error { return remote.Write(r, foreign) })
	both := push(host+"/open/both:1", func(r name.Reference) error { return remote.WriteIndex(r, indexOf(foreign, img)) })
	other := push(host+"/open/other:1", func(r name.Reference) error { return remote.WriteIndex(r, indexOf(foreign)) })

	kubectl("create", "secret", "docker-registry", "login", "--docker-server="+closed, "--docker-username=reader", "--docker-password=secret")
	run := func(pod, image string, more ...string) {
		kubectl(append([]string{"run", pod, "--restart=Never", "--image=" + image}, more...)...)
	}
	run("by-digest", strings.TrimSuffix(plain, ":1")+"@"+digest.String())
	run("of-index", both)
	run("logged-in", private, `--overrides={"spec":{"imagePullSecrets":[{"name":"login"}]}}`)
	run("no-login", private, "--image-pull-policy=Always")
	run("foreign", arm)
	run("other", other)
	run("late", host+"/open/late:1")
	for _, pod := range []string{"by-digest", "of-index", "logged-in"} {
		kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+pod, "--timeout=60s")
	}
	if id := kubectl("get", "pod", "by-digest", "-o", "jsonpath={.status.containerStatuses[0].imageID}"); !strings.HasSuffix(id, "@"+digest.String()) {
		t.Errorf("imageID is %s, want …@%s", id, digest)
	}
	for pod, want := range map[string]string{
		"no-login": "UNAUTHORIZED|401 Unauthorized",
		"foreign":  "no match for platform in manifest: it is for linux/s390x",
		"other":    "no child with platform linux/",
		"late":     "NAME_UNKNOWN|MANIFEST_UNKNOWN|404 Not Found",
	} {
		awaitWaiting(t, kubectl, pod, regexp.MustCompile(want))
	}
	push(host+"/open/late:1", func(r name.Reference) error { return remote.Write(r, img) })
	kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/late", "--timeout=60s")
	kubectl("delete", "pod", "--all", "--wait=false")
}

func withArchitecture(t *testing.T, img v1.Image, architecture string) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = architecture
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func indexOf(images ...v1.Image) v1.ImageIndex {
	index := v1.ImageIndex(empty.Index)
	for _, img := range images {
		architecture := "amd64"
		if config, err := img.ConfigFile(); err == nil {
			architecture = config.Architecture
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	return index
}

// awaitWaiting waits until a pod's container says why it has no image, in the state and in an event.
func awaitWaiting(t *testing.T, kubectl func(...string) string, pod string, want *regexp.Regexp) {
	t.Helper()
	var state, events string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		state = kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].state.waiting}")
		events = kubectl("get", "events", "--field-selector", "involvedObject.name="+pod)
		if want.MatchString(state) && strings.Contains(state, "ErrImagePull") && strings.Contains(events, "Failed to pull image") {
			return
		}
	}
	t.Errorf("%s: want %s in the state %s and an event of it in\n%s", pod, want, state, events)
}
