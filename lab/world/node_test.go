package world

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestMoreKubeletFlags reads the file as kubeadm writes it; without the file there are no more flags.
func TestMoreKubeletFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeadm-flags.env")
	if got := moreKubeletFlags(file); got != nil {
		t.Errorf("without a file: %q", got)
	}
	for text, want := range map[string][]string{
		"KUBELET_KUBEADM_ARGS=\"--max-pods=5 --eviction-hard=nodefs.available<20%\"\n": {"--max-pods=5", "--eviction-hard=nodefs.available<20%"},
		"# nothing\nKUBELET_KUBEADM_ARGS=--v=5":                                        {"--v=5"},
		"OTHER=1\n":                                                                    nil,
		"KUBELET_KUBEADM_ARGS=\"\"\n":                                                  nil,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := moreKubeletFlags(file); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
