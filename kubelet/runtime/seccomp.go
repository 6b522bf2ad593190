package runtime

import (
	"fmt"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What Container.Seccomp may be besides a file.
const (
	Unconfined     = "unconfined"
	RuntimeDefault = "runtime/default"
)

// seccompFilter is the filter of a container, nil for none. The default profile, the one of Docker and
// containerd, allows more system calls to a container with more capabilities: mount(2) with
// CAP_SYS_ADMIN, for example. So spec has to be complete but for the filter.
func seccompFilter(profile string, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	switch profile {
	case "", Unconfined:
		return nil, nil
	case RuntimeDefault:
		filter, err := seccomp.GetDefaultProfile(spec)
		if err != nil {
			return nil, fmt.Errorf("make default seccomp profile: %w", err)
		}
		return filter, nil
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		return nil, fmt.Errorf("cannot load seccomp profile %q: %w", profile, err)
	}
	filter, err := seccomp.LoadProfile(string(text), spec)
	if err != nil {
		return nil, fmt.Errorf("cannot load seccomp profile %q: %w", profile, err)
	}
	return filter, nil
}
