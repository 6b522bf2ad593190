package kubelet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podarium/podarium/kubelet/runtime"
)

func TestLogLinks(t *testing.T) {
	dir := t.TempDir()
	k := &Kubelet{cfg: Config{LogDir: filepath.Join(dir, "pods")}}
	links := k.cfg.logLinkDir()
	if err := os.Mkdir(links, 0o755); err != nil {
		t.Fatal(err)
	}
	here, gone := filepath.Join(dir, "0.log"), filepath.Join(dir, "gone.log")
	if err := os.WriteFile(here, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("3f", 32)
	kept := runtime.Record{ID: id, PodName: "web-0", PodNamespace: "shop", Name: "nginx", LogPath: here}
	k.linkLog(kept)
	k.linkLog(runtime.Record{ID: id, PodName: strings.Repeat("a", 250), PodNamespace: "shop", Name: "nginx", LogPath: gone})
	if entries, err := os.ReadDir(links); err != nil || len(entries) != 2 || len(entries[0].Name()) != 255 {
		t.Fatalf("links: %v, %v", entries, err)
	}
	k.sweepLogLinks()
	entries, err := os.ReadDir(links)
	if err != nil || len(entries) != 1 || entries[0].Name() != "web-0_shop_nginx-"+id+".log" {
		t.Errorf("after the sweep: %v, %v", entries, err)
	}
	if target, err := os.Readlink(logLink(links, kept)); err != nil || target != here {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}
