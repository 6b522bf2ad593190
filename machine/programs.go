package machine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/podarium/podarium/internal/atomicfile"
)

// Where programs are on every node, of a lab too.
const (
	programsDir = "/opt/podarium"
	cniDir      = "/opt/cni/bin"
)

// InstallCNI puts our plugin where every CNI runtime looks, under the name that
// a network configuration calls it by, "podarium", and beside it upstream's
// portmap, which makes a pod's hostPort. root is the machine's root folder,
// programs the one in which `make build` leaves them.
func InstallCNI(root, programs string) error {
	for name, source := range map[string]string{"podarium": "podarium-cni", "portmap": "cni/portmap"} {
		if _, err := install(filepath.Join(programs, source), filepath.Join(root, cniDir, name)); err != nil {
			return fmt.Errorf("install CNI plugin: %w (build it with `make build`)", err)
		}
	}
	return nil
}

// installPrograms copies ours to /opt/podarium, and links the two which people
// type to where they are found. A kubectl that is here already stays.
func (m *Machine) installPrograms() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	changed := false
	for _, name := range []string{"podarium", "podarium-node", "podarium-proxy", "podarium-dns", "podarium-shim", "simpleservice"} {
		new, err := install(filepath.Join(filepath.Dir(self), name), filepath.Join(programsDir, name))
		if err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
		changed = changed || new
	}
	m.programsChanged = changed
	if err := InstallCNI("/", filepath.Dir(self)); err != nil {
		return err
	}
	for _, name := range []string{"podarium", "kubectl"} {
		link := filepath.Join("/usr/local/bin", name)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(programsDir, "podarium"), link); err != nil {
			return fmt.Errorf("link %s: %w", link, err)
		}
	}
	m.found("programs", changed, "%s, %s/{podarium,portmap}, /usr/local/bin/{podarium,kubectl}", programsDir, cniDir)
	return nil
}

// install copies a program unless the same is there. A running one is replaced,
// not written into.
func install(source, target string) (changed bool, err error) {
	if source == target {
		return false, nil
	}
	program, err := os.ReadFile(source)
	if err != nil {
		return false, err
	}
	if have, err := os.ReadFile(target); err == nil && bytes.Equal(have, program) {
		return false, nil
	}
	return true, atomicfile.Write(target, program, 0o755)
}
