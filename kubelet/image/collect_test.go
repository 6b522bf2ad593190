package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/netns/nstest"
)

func TestPlan(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	// An image of one layer of its own and perhaps others; an hour old, used last that many minutes ago.
	img := func(name string, idle int, layers ...string) stored {
		return stored{
			Image: Image{Digest: name, Added: ago(time.Hour), Layers: append(layers, name+"-own")},
			names: []string{name + ":1"}, lastUsed: ago(time.Duration(idle) * time.Minute),
		}
	}
	with := func(img stored, change func(*stored)) stored { change(&img); return img }
	pinned := func(s *stored) { s.Pinned = true }
	nameless := func(s *stored) { s.names = nil }
	fresh := func(s *stored) { s.Added = ago(119 * time.Second) }
	layers := map[string]int64{"a-own": 10, "b-own": 20, "c-own": 40, "base": 100}
	for name, test := range map[string]struct {
		images []stored
		marks  []mark
		extra  string // one more layer
		adding bool
		need   int64
		want   []string // images, then layers, then marks
		freed  int64
	}{
		"nothing is needed":        {images: []stored{img("a", 5), img("b", 9)}},
		"the longest unused first": {images: []stored{img("a", 5), img("b", 9), img("c", 1)}, need: 15, want: []string{"b", "b-own"}, freed: 20},
		"until there is enough":    {images: []stored{img("a", 5), img("b", 9), img("c", 1)}, need: 21, want: []string{"b", "a", "a-own", "b-own"}, freed: 30},
		"not enough there":         {images: []stored{img("a", 5)}, need: 1000, want: []string{"a", "a-own"}, freed: 10},
		"pinned":                   {images: []stored{with(img("a", 9), pinned), img("b", 5)}, need: 1000, want: []string{"b", "b-own"}, freed: 20},
		"came just now":            {images: []stored{with(img("a", 9), fresh), img("b", 5)}, need: 1000, want: []string{"b", "b-own"}, freed: 20},
		"from before times were kept": {
			images: []stored{with(img("a", 9), func(s *stored) { s.Added = time.Time{} })}, need: 1,
			want: []string{"a", "a-own"}, freed: 10,
		},
		"a container runs": {
			images: []stored{img("a", 9), img("b", 5)}, need: 1000,
			marks: []mark{{id: "1", digest: "a", held: true, seen: ago(240 * time.Hour)}}, want: []string{"b", "b-own"}, freed: 20,
		},
		"a container has ended": {images: []stored{img("a", 9)}, need: 1000, marks: []mark{{id: "1", digest: "a", seen: ago(23 * time.Hour)}}},
		"its node is gone": {
			images: []stored{img("a", 9)}, need: 1000,
			marks: []mark{{id: "1", digest: "a", seen: ago(25 * time.Hour)}}, want: []string{"a", "a-own", "1"}, freed: 10,
		},
		"one of two nodes is gone": {
			images: []stored{img("a", 9)}, need: 1000,
			marks: []mark{{id: "1", digest: "a", seen: ago(25 * time.Hour)}, {id: "2", digest: "a", seen: now}}, want: []string{"1"},
		},
		"a shared layer stays": {images: []stored{img("a", 9, "base"), img("b", 5, "base")}, need: 1, want: []string{"a", "a-own"}, freed: 10},
		"and goes with the last": {
			images: []stored{img("a", 9, "base"), img("b", 5, "base")}, need: 11,
			want: []string{"a", "b", "a-own", "b-own", "base"}, freed: 130,
		},
		"no name leads to it":           {images: []stored{with(with(img("a", 1), nameless), pinned), img("b", 9)}, want: []string{"a", "a-own"}, freed: 10},
		"no name, but a container":      {images: []stored{with(img("a", 1), nameless)}, marks: []mark{{digest: "a", seen: now}}, need: 1000},
		"a layer of no image":           {images: []stored{img("a", 1)}, extra: "lost", want: []string{"lost"}, freed: 7},
		"a layer of no image is enough": {images: []stored{img("a", 1)}, extra: "lost", need: 7, want: []string{"lost"}, freed: 7},
		"somebody adds an image":        {images: []stored{img("a", 1)}, extra: "lost", adding: true, need: 7, want: []string{"a", "a-own"}, freed: 10},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot{images: test.images, marks: test.marks, layers: map[string]int64{}, adding: test.adding}
			for _, img := range test.images {
				for _, layer := range img.Layers {
					s.layers[layer] = layers[layer]
				}
			}
			if test.extra != "" {
				s.layers[test.extra] = 7
			}
			p := s.plan(test.need, now, 2*time.Minute)
			var got []string
			for _, img := range p.images {
				got = append(got, img.Digest)
			}
			got = slices.Concat(got, p.layers, p.marks)
			if diff := cmp.Diff(test.want, got); diff != "" || p.freed != test.freed {
				t.Errorf("frees %d, want %d; (-want +got)\n%s", p.freed, test.freed, diff)
			}
		})
	}
}

// files is an image of one layer with a file of each name.
func files(t *testing.T, names ...string) v1.Image {
	t.Helper()
	var headers []tar.Header
	for _, name := range names {
		headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeReg})
	}
	return testImage(t, headers)
}

func openStore(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pulled puts an image into the store as if a registry had it.
func pulled(t *testing.T, s *Store, ref string, img v1.Image) {
	t.Helper()
	if _, err := s.add([]string{ref}, img, false); err != nil {
		t.Fatal(err)
	}
}

// collectAll removes everything that may be removed.
func collectAll(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Collect(0, func() (int64, error) { return 1 << 60, nil }); err != nil {
		t.Fatal(err)
	}
}

// tree is what is in a store: "layers 2, images 1, uses 0, tmp 0, names …".
func tree(t *testing.T, s *Store) string {
	t.Helper()
	count := func(dir string) int {
		entries, err := os.ReadDir(filepath.Join(s.root, dir))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	index, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range index {
		names = append(names, strings.TrimPrefix(name, "docker.io/library/"))
	}
	slices.Sort(names)
	return fmt.Sprintf("layers %d, images %d, uses %d, tmp %d, names %v", count("layers")/2, count("images"), count("uses"), count("tmp"), names)
}

func wantTree(t *testing.T, s *Store, want string) {
	t.Helper()
	if got := tree(t, s); got != want {
		t.Errorf("the store has %s\nwant %s", got, want)
	}
}

// TestCollectLeavesWhatIsUsed: two kubelets on one image root, as two nodes of a lab.
func TestCollectLeavesWhatIsUsed(t *testing.T) {
	root := t.TempDir()
	node1, node2 := openStore(t, root), openStore(t, root)
	pulled(t, node1, "one", files(t, "a"))
	pulled(t, node1, "two", files(t, "b"))
	pulled(t, node1, "none", files(t, "c"))
	if err := node1.Import("local", files(t, "d")); err != nil {
		t.Fatal(err)
	}
	for node, ref := range map[*Store]string{node1: "one", node2: "two"} {
		if _, err := node.Use(ref, "of-"+ref, "node default/pod c"); err != nil {
			t.Fatal(err)
		}
	}
	collectAll(t, node1)
	wantTree(t, node1, "layers 3, images 3, uses 2, tmp 0, names [local:latest one:latest two:latest]")
	if _, err := node2.Use("none", "x", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed image is found: %v", err)
	}
	if err := node2.Drop("of-two"); err != nil {
		t.Fatal(err)
	}
	collectAll(t, node1)
	wantTree(t, node1, "layers 2, images 2, uses 1, tmp 0, names [local:latest one:latest]")
	pulled(t, node2, "two", files(t, "b"))
	img, err := node2.Use("two", "again", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(img.Layers[0], "b")); err != nil {
		t.Error(err)
	}
}

// TestMarkOutlivesKubelet: a shim's lock keeps a mark for as long as it takes; without, it counts for a day.
func TestMarkOutlivesKubelet(t *testing.T) {
	s := openStore(t, t.TempDir())
	pulled(t, s, "one", files(t, "a"))
	if _, err := s.Use("one", "c", "node-2 default/pod c"); err != nil {
		t.Fatal(err)
	}
	shim, err := lockFile(s.MarkPath("c"), unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * forgetAfter)
	if err := os.Chtimes(s.MarkPath("c"), long, long); err != nil {
		t.Fatal(err)
	}
	collectAll(t, s)
	wantTree(t, s, "layers 1, images 1, uses 1, tmp 0, names [one:latest]")
	shim.Close()
	if err := s.Seen([]string{"c", "unknown"}); err != nil {
		t.Fatal(err)
	}
	collectAll(t, s)
	wantTree(t, s, "layers 1, images 1, uses 1, tmp 0, names [one:latest]")
	if err := os.Chtimes(s.MarkPath("c"), long, long); err != nil {
		t.Fatal(err)
	}
	collectAll(t, s)
	wantTree(t, s, "layers 0, images 0, uses 0, tmp 0, names []")
}

// TestCollectAfterKill leaves each state in which a process may have been killed.
func TestCollectAfterKill(t *testing.T) {
	remove := func(path string) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			t.Helper()
			found, err := filepath.Glob(filepath.Join(s.root, path))
			if err != nil || len(found) == 0 {
				t.Fatalf("nothing is at %s: %v", path, err)
			}
			for _, path := range found {
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	write := func(path string) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			t.Helper()
			path := filepath.Join(s.root, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("{"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := func(kills ...func(*testing.T, *Store)) func(*testing.T, *Store) {
		return func(t *testing.T, s *Store) {
			t.Helper()
			for _, kill := range kills {
				kill(t, s)
			}
		}
	}
	long := func(t *testing.T, s *Store) {
		t.Helper()
		if err := os.Chtimes(s.MarkPath("c"), time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	record, size, layer, index := remove("images/*.json"), remove("layers/*.size"), remove("layers/*"), remove("index.json")
	for name, kill := range map[string]func(*testing.T, *Store){
		"removing: no record":          record,
		"removing: a layer not at all": all(record, size),
		"removing: in the grave":       all(record, layer, write("tmp/removed-1/a/b")),
		"removing: only a name":        all(record, layer),
		"adding: in tmp":               all(record, layer, index, write("tmp/new-1/layer-1/a")),
		"adding: a layer without size": all(record, size, index),
		"adding: no record":            all(record, index),
		"adding: half a record":        all(record, index, write("images/.ab.json.1")),
		"adding: no name":              index,
		"adding: half an index":        all(index, write(".index.json.1")),
		"marking, long ago":            all(index, write("uses/c"), long),
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			pulled(t, s, "one", files(t, "a"))
			kill(t, s)
			if _, err := s.Collect(time.Hour, func() (int64, error) { return 0, nil }); err != nil {
				t.Fatal(err)
			}
			wantTree(t, s, "layers 0, images 0, uses 0, tmp 0, names []")
			if left, err := filepath.Glob(filepath.Join(s.root, ".*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v %v", left, err)
			}
			pulled(t, s, "one", files(t, "a"))
			wantTree(t, s, "layers 1, images 1, uses 0, tmp 0, names [one:latest]")
		})
	}
}

// TestCollectOnFullDisk: there is no room for as much as a new index.
func TestCollectOnFullDisk(t *testing.T) {
	nstest.NeedRoot(t)
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := openStore(t, root)
	pulled(t, s, "one", files(t, "a", "b"))
	if err := s.Import("local", files(t, "c")); err != nil {
		t.Fatal(err)
	}
	full, err := os.Create(filepath.Join(root, "somebody-else"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for page := make([]byte, os.Getpagesize()); err == nil; {
		_, err = full.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if _, err := s.add([]string{"two"}, files(t, "d"), false); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("there is room for another image: %v", err)
	}
	collectAll(t, s)
	wantTree(t, s, "layers 1, images 1, uses 0, tmp 0, names [local:latest]")
}

// TestLayerGoesWhileUnpacking: an image is removed with a layer on which another that is being added counts.
func TestLayerGoesWhileUnpacking(t *testing.T) {
	root := t.TempDir()
	s, other := openStore(t, root), openStore(t, root)
	base, own := []tar.Header{{Name: "base", Typeflag: tar.TypeReg}}, []tar.Header{{Name: "own", Typeflag: tar.TypeReg}}
	pulled(t, s, "old", testImage(t, base))
	removed := 0
	img := onLayer(t, testImage(t, base, own), 1, func() {
		if removed++; removed == 1 { // the first layer is there, nothing tells yet that we need it
			collectAll(t, other)
			wantTree(t, s, "layers 0, images 0, uses 0, tmp 1, names []")
		}
	})
	pulled(t, s, "new", img)
	wantTree(t, s, "layers 2, images 1, uses 0, tmp 0, names [new:latest]")
	got, err := s.Get("new")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"base", "own"} {
		if _, err := os.Stat(filepath.Join(got.Layers[i], name)); err != nil {
			t.Error(err)
		}
	}
	collectAll(t, other)
	wantTree(t, s, "layers 0, images 0, uses 0, tmp 0, names []")
}

// TestAddAndCollect: three kubelets pull, use and drop images with layers in common while two others collect.
// Whoever uses an image finds all of its files, as long as it uses it.
func TestAddAndCollect(t *testing.T) {
	root := t.TempDir()
	base := []tar.Header{{Name: "base", Typeflag: tar.TypeReg}}
	images := make([]v1.Image, 3)
	for i := range images {
		images[i] = testImage(t, base, []tar.Header{{Name: fmt.Sprint("own-", i), Typeflag: tar.TypeReg}})
	}
	var kubelets, collectors sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		collectors.Go(func() {
			s := openStore(t, root)
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Collect(0, func() (int64, error) { return 1 << 60, nil }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for node := range 3 {
		kubelets.Go(func() {
			s := openStore(t, root)
			for round := range 40 {
				if err := useOnce(s, fmt.Sprint("image-", (node+round)%3), images[(node+round)%3], fmt.Sprint(node, "-", round)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	kubelets.Wait()
	close(done)
	collectors.Wait()
	collectAll(t, openStore(t, root))
	wantTree(t, openStore(t, root), "layers 0, images 0, uses 0, tmp 0, names []")
}

// TestCollectorsTakeTurns: two kubelets see the same full disk, and what one is about to delete the other does
// not replace by more images.
func TestCollectorsTakeTurns(t *testing.T) {
	for range 20 {
		root := t.TempDir()
		s := openStore(t, root)
		for i := range 6 {
			pulled(t, s, fmt.Sprint("image-", i), files(t, fmt.Sprint(i))) // each has the 12 bytes of "content of 0"
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if _, err := openStore(t, root).Collect(0, func() (int64, error) { return contentBytes(t, root) - 3*12, nil }); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		wantTree(t, s, "layers 3, images 3, uses 0, tmp 0, names [image-3:latest image-4:latest image-5:latest]")
	}
}

// contentBytes measures what is unpacked, and what is not yet deleted.
func contentBytes(t *testing.T, root string) int64 {
	t.Helper()
	var bytes int64
	for _, dir := range []string{"layers", "tmp"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err == nil && entry.Type().IsRegular() && filepath.Ext(path) != sizeSuffix {
				bytes += 12
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	return bytes
}

// useOnce is a container's life as the store sees it.
func useOnce(s *Store, ref string, img v1.Image, id string) error {
	for {
		got, err := s.Use(ref, id, "")
		if errors.Is(err, ErrNotFound) {
			if _, err := s.add([]string{ref}, img, false); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		for range 10 {
			for _, dir := range got.Layers {
				if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
					return fmt.Errorf("layer %s of a used image has %d files: %w", dir, len(entries), err)
				}
			}
		}
		return s.Drop(id)
	}
}

// onLayer calls do whenever the content of an image's layer is about to be read.
func onLayer(t *testing.T, img v1.Image, number int, do func()) v1.Image {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layers = slices.Clone(layers)
	layers[number] = told{layers[number], do}
	return toldImage{img, layers}
}

type toldImage struct {
	v1.Image
	layers []v1.Layer
}

func (i toldImage) Layers() ([]v1.Layer, error) { return i.layers, nil }

type told struct {
	v1.Layer
	do func()
}

func (l told) Uncompressed() (io.ReadCloser, error) {
	l.do()
	return l.Layer.Uncompressed()
}
