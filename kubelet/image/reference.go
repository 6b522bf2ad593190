package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
)

// dockerHub is how people write the registry which go-containerregistry calls index.docker.io.
const dockerHub = "docker.io"

// Normalize expands a reference as it stands in a pod to its full form: busybox becomes
// docker.io/library/busybox:latest, example.com/app@sha256:… stays as it is.
func Normalize(ref string) (string, error) {
	parsed, err := parse(ref)
	if err != nil {
		return "", err
	}
	return canonical(parsed), nil
}

func normalizeAll(refs []string) ([]string, error) {
	names := make([]string, len(refs))
	for i, ref := range refs {
		full, err := Normalize(ref)
		if err != nil {
			return nil, err
		}
		names[i] = full
	}
	return names, nil
}

// Repository is the normalized reference without tag and digest: docker.io/library/busybox.
func Repository(ref string) (string, error) {
	parsed, err := parse(ref)
	if err != nil {
		return "", err
	}
	return repository(parsed), nil
}

func parse(ref string) (name.Reference, error) {
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		if _, why := reference.ParseNormalizedNamed(ref); why != nil {
			err = why // it says more, and what Kubernetes says
		}
		return nil, fmt.Errorf("couldn't parse image name %q: %w", ref, err)
	}
	return parsed, nil
}

func canonical(ref name.Reference) string {
	if digest, ok := ref.(name.Digest); ok {
		return repository(ref) + "@" + digest.DigestStr()
	}
	return repository(ref) + ":" + ref.Identifier()
}

func repository(ref name.Reference) string {
	full := ref.Context().Name()
	if rest, ok := strings.CutPrefix(full, name.DefaultRegistry+"/"); ok {
		return dockerHub + "/" + rest
	}
	return full
}
