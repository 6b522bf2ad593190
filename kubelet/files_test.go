package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podarium/podarium/internal/netns/nstest"
)

func mustParse(text string) resource.Quantity { return resource.MustParse(text) }

func TestWriteVolume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "-"
		}
		return string(data)
	}
	write := func(files map[string]volumeFile, wantChange bool) {
		t.Helper()
		changed, err := writeVolume(dir, files, volumeRights{mode: 0o777})
		if err != nil {
			t.Fatal(err)
		}
		if changed != wantChange {
			t.Errorf("changed = %v, want %v", changed, wantChange)
		}
	}
	one := map[string]volumeFile{"a": {data: []byte("1"), mode: 0o600}, "sub/b": {data: []byte("2"), mode: 0o644}}
	write(one, true)
	if got := read("a") + read("sub/b"); got != "12" {
		t.Errorf("content = %q, want 12", got)
	}
	write(one, false)
	write(map[string]volumeFile{"a": {data: []byte("3"), mode: 0o600}}, true)
	if got := read("a") + read("sub/b"); got != "3-" {
		t.Errorf("content after the change = %q, want 3-", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 { // ..data, its directory, a
		t.Errorf("%d entries are left, want 3: %v", len(entries), err)
	}
	if _, err := writeVolume(dir, map[string]volumeFile{"../evil": {mode: 0o600}}, volumeRights{mode: 0o777}); err == nil {
		t.Error("a path out of the volume was written")
	}
}

// TestVolumeRights: who may do what in a volume of a pod with fsGroup, as upstream's kubelet leaves it.
func TestVolumeRights(t *testing.T) {
	nstest.NeedRoot(t)
	dir, gid := filepath.Join(t.TempDir(), "volume"), int64(1234)
	user := int64(1000)
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &gid}, Containers: []corev1.Container{{Name: "c"}},
	}}
	files := map[string]volumeFile{
		"a": {data: []byte("1"), mode: 0o600}, "token": volumeWriter{pod: pod}.tokenFile("t", nil),
	}
	if _, err := writeVolume(dir, files, volumeRights{mode: 0o777, gid: &gid}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		".": "dgrwxrwxrwx 0 1234", "..data": "Lrwxrwxrwx 0 1234", "..data/.": "dgrwxr-xr-x 0 1234",
		"..data/a": "-rw-r----- 0 1234", "..data/token": "-rw-r----- 1000 1234", "a": "Lrwxrwxrwx 0 1234",
	} {
		info, err := os.Lstat(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if got := fmt.Sprint(info.Mode(), " ", owner.Uid, " ", owner.Gid); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	pod.Spec.SecurityContext.FSGroup = nil
	if file := (volumeWriter{pod: pod}).tokenFile("t", nil); file.mode != 0o600 || file.uid == nil || *file.uid != user {
		t.Errorf("without fsGroup the token has mode %o and owner %v, want 600 and %d", file.mode, file.uid, user)
	}
	pod.Spec.InitContainers = []corev1.Container{{SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(7))}}}
	if file := (volumeWriter{pod: pod}).tokenFile("t", nil); file.mode != 0o644 || file.uid != nil {
		t.Errorf("of two users none is the owner: mode %o, owner %v", file.mode, file.uid)
	}
}

// TestSubPath: what is made in a volume may be used by who may use the volume, and nothing leads out of it.
func TestSubPath(t *testing.T) {
	volume := t.TempDir()
	if err := os.Chmod(volume, 0o777|fs.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	made, err := subPath(volume, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(made); err != nil || info.Mode() != 0o777|fs.ModeSetgid|fs.ModeDir {
		t.Errorf("the directory made in the volume: %v, %v", info.Mode(), err)
	}
	for expr, want := range map[string]string{
		"$(POD)/x":  "web/x ",
		"$(NONE)/x": " missing value for NONE",
		"$(UP)/x":   " unable to provision SubPath `../x`: must not contain '..'",
		"$(ABS)/x":  " error SubPath `/abs/x` must not be an absolute path",
		"a..b":      "a..b ",
	} {
		sub, err := chosenSubPath(corev1.VolumeMount{SubPathExpr: expr}, map[string]string{"POD": "web", "UP": "..", "ABS": "/abs"})
		got := sub + " "
		if err != nil {
			got += err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

const testLog = `2026-01-02T03:04:01Z stdout F one
2026-01-02T03:04:02Z stderr F two
2026-01-02T03:04:03Z stdout P thr
2026-01-02T03:04:03.5Z stdout F ee
broken line
2026-01-02T03:04:04Z stdout F four
`

func TestReadLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(testLog), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for query, want := range map[string]string{
		"":                                "one\ntwo\nthree\nfour\n",
		"tailLines=1":                     "four\n",
		"tailLines=0":                     "",
		"tailLines=100":                   "one\ntwo\nthree\nfour\n",
		"sinceSeconds=1":                  "four\n",
		"sinceTime=2026-01-02T03:04:02Z":  "two\nthree\nfour\n",
		"limitBytes=5":                    "one\nt",
		"stream=Stderr":                   "two\n",
		"timestamps=true&tailLines=1":     "2026-01-02T03:04:04Z four\n",
		"timestamps=true&sinceSeconds=2":  "2026-01-02T03:04:03Z three\n2026-01-02T03:04:04Z four\n",
		"previous=false&follow=false&x=y": "one\ntwo\nthree\nfour\n",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		request, err := parseLogRequest(values, now)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := readLog(t.Context(), path, request, nil, &out); err != nil && !errors.Is(err, errLimit) {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%q: got %q, want %q", query, out.String(), want)
		}
	}
	for _, bad := range []string{"tailLines=x", "tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceTime=now"} {
		values, _ := url.ParseQuery(bad)
		if _, err := parseLogRequest(values, now); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestFollowLogOverRotationToTheEnd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	line := func(text string) string { return "2026-01-02T03:04:01Z stdout F " + text + "\n" }
	if err := os.WriteFile(path, []byte(line("one")), 0o600); err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	ended := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() {
		write.CloseWithError(readLog(ctx, path, logRequest{follow: true, tail: -1, stream: "All"}, ended, write))
	}()
	buffer := make([]byte, 64)
	expect := func(want string) {
		t.Helper()
		n, err := io.ReadAtLeast(read, buffer, len(want))
		if err != nil || string(buffer[:n]) != want {
			t.Fatalf("got %q, %v; want %q", buffer[:n], err, want)
		}
	}
	expect("one\n")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(line("two")), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("two\n")
	close(ended)
	if rest, err := io.ReadAll(read); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	for line := range strings.Lines(testLog) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if r, ok := parseRecord(line); ok && r.stream != "stdout" && r.stream != "stderr" {
			t.Errorf("parseRecord(%q) gave stream %q", line, r.stream)
		}
	})
}
