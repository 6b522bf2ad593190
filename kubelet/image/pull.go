package image

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// PullOptions says how a registry is reached. The zero value pulls anonymously, over the network
// which the process is in.
type PullOptions struct {
	// Dial opens connections to the registry; nil means the process's own network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Username and Password log in; both empty means anonymous.
	Username, Password string
	// Insecure allows plain http.
	Insecure bool
}

// Pull fetches an image from its registry and unpacks what is not there yet.
func (s *Store) Pull(ctx context.Context, ref string, opts PullOptions) (Image, error) {
	nameOptions := []name.Option{name.WeakValidation}
	if opts.Insecure {
		nameOptions = append(nameOptions, name.Insecure)
	}
	parsed, err := name.ParseReference(ref, nameOptions...)
	if err != nil {
		return Image{}, fmt.Errorf("parse image reference %q: %w", ref, err)
	}
	remoteOptions := []remote.Option{
		remote.WithContext(ctx), remote.WithPlatform(platform()), remote.WithTransport(transport(opts)),
	}
	if opts.Username != "" {
		remoteOptions = append(remoteOptions, remote.WithAuth(&authn.Basic{Username: opts.Username, Password: opts.Password}))
	}
	img, err := remote.Image(parsed, remoteOptions...)
	if err != nil {
		return Image{}, fmt.Errorf("pull image %s: %w", ref, err)
	}
	if err := forThisMachine(img); err != nil {
		return Image{}, fmt.Errorf("pull image %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("pull image %s: %w", ref, err)
	}
	return s.add([]string{ref, repository(parsed) + "@" + digest.String()}, img, false)
}

func transport(opts PullOptions) http.RoundTripper {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	if opts.Dial != nil {
		t.Proxy = nil
		t.DialContext = opts.Dial
	}
	return t
}

// ThroughProxy returns a dialer which reaches every address through an HTTP proxy that listens on a
// unix socket (HTTP CONNECT, RFC 9110 section 9.3.6). The nodes of a lab have no way out of their
// own; names are resolved on the proxy's side.
func ThroughProxy(socket string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, fmt.Errorf("reach image pull proxy: %w", err)
		}
		if err := connect(conn, address); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

// connectTimeout bounds the proxy's answer to CONNECT, which includes its own dial.
const connectTimeout = 30 * time.Second

func connect(conn net.Conn, address string) error {
	if err := conn.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", address, address); err != nil {
		return fmt.Errorf("ask image pull proxy for %s: %w", address, err)
	}
	// The server speaks first in no protocol that a registry uses, so nothing of the tunnel's own
	// bytes can be lost in this reader.
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("read answer of image pull proxy for %s: %w", address, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("image pull proxy cannot reach %s: %s", address, answer.Status)
	}
	return conn.SetDeadline(time.Time{})
}

func platform() v1.Platform {
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// forThisMachine refuses an image whose programs could not run here. Of an index the registry client has
// picked the right one; a single image may be for any machine. One that says nothing is believed.
func forThisMachine(img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	have := v1.Platform{OS: cmp.Or(config.OS, platform().OS), Architecture: cmp.Or(config.Architecture, platform().Architecture)}
	if !have.Satisfies(platform()) {
		return fmt.Errorf("no match for platform in manifest: it is for %s, this machine is %s", have, platform())
	}
	return nil
}

func dockerImage(open tarball.Opener, ref string) (v1.Image, error) {
	tag, err := name.NewTag(ref, name.WeakValidation)
	if err != nil {
		return nil, err
	}
	return tarball.Image(open, &tag)
}
