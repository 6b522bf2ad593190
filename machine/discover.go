package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/podarium/podarium/internal/pki"
)

// A machine that joins knows three things: an address, a token, and the hash of
// the CA's public key. From the hash follows the trust in everything else:
//
//	joiner ──── TLS, any certificate ────▶ API server
//	       ◀─── its certificate, the CA's ───
//	sha256(CA's public key) = the hash? and the CA signed the other one? then
//	only now is the token said, over connections which this CA secures.
//
// (kubeadm reads the CA from the ConfigMap kube-public/cluster-info instead,
// which everybody may read; here nobody reads anything without a name.)

const discoverTimeout = 15 * time.Second

// clockTolerance is how far clocks may differ: certificates are dated back by
// five minutes, tokens and leases are looked at by one clock only.
const clockTolerance = time.Minute

var hashPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// discover finds the CA of the API server at address, HOST:PORT.
func discover(ctx context.Context, address string, hashes []string) (caPEM []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, discoverTimeout)
	defer cancel()
	var authority *x509.Certificate
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // looked at by findAuthority instead
		VerifyConnection: func(state tls.ConnectionState) error {
			host, _, _ := net.SplitHostPort(address)
			authority, err = findAuthority(state.PeerCertificates, host, hashes)
			return err
		},
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/livez", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%q is no address of an API server, HOST:PORT: %w", address, err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if refused, ok := errors.AsType[*notTrusted](err); ok {
		return nil, refused
	}
	if err != nil {
		return nil, fmt.Errorf("reach the API server at %s (does it run, and does a firewall let port 6443 through?): %w", address, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16)) // 401 is a fine answer
	if err := checkClock(answer.Header.Get("Date"), time.Now()); err != nil {
		return nil, err
	}
	return pki.EncodeCertificate(authority), nil
}

// notTrusted is why an API server is not the right one.
type notTrusted struct{ reason string }

func (e *notTrusted) Error() string { return e.reason }

// findAuthority returns the certificate of a server's chain that has one of the
// hashes, when it signed the server's own, which is for host. Whether the times
// are right is not looked at: this machine's clock may be wrong.
func findAuthority(chain []*x509.Certificate, host string, hashes []string) (*x509.Certificate, error) {
	var seen []string
	for _, cert := range chain[1:] {
		if !cert.IsCA {
			continue
		}
		seen = append(seen, pki.Hash(cert))
		if !slices.Contains(hashes, pki.Hash(cert)) {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		options := x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: chain[0].NotBefore.Add(time.Second)}
		if _, err := chain[0].Verify(options); err != nil {
			return nil, &notTrusted{fmt.Sprintf("the API server's certificate is not good for %s: %v", host, err)}
		}
		return cert, nil
	}
	if len(seen) == 0 {
		return nil, &notTrusted{"the API server does not show its CA's certificate: is it a Podarium cluster? (put ca.crt behind its own in --tls-cert-file)"}
	}
	return nil, &notTrusted{fmt.Sprintf("this is another cluster: its CA has the hash %s, which --discovery-token-ca-cert-hash does not say. "+
		"Make a new join command on the control plane: podarium token create --print-join-command", strings.Join(seen, ", "))}
}

// checkClock compares with the date in an answer (RFC 9110 §6.6.1). Without it, a
// wrong clock shows itself as "certificate has expired or is not yet valid", or as
// a node whose heartbeats are in the past.
func checkClock(date string, now time.Time) error {
	theirs, err := http.ParseTime(date)
	if err != nil {
		return nil //nolint:nilerror // a proxy between us may leave it out
	}
	off, direction := now.Sub(theirs), "ahead of"
	if off < 0 {
		off, direction = -off, "behind"
	}
	if off <= clockTolerance {
		return nil
	}
	return fmt.Errorf("the clock of this machine is %s %s the control plane's: timedatectl set-ntp true, or date -s @%d",
		off.Round(time.Second), direction, theirs.Unix())
}

// validHashes checks the words of --discovery-token-ca-cert-hash.
func validHashes(hashes []string) error {
	if len(hashes) == 0 {
		return errors.New("--discovery-token-ca-cert-hash is needed, as `podarium token create --print-join-command` on the control plane tells it")
	}
	for _, hash := range hashes {
		if !hashPattern.MatchString(hash) {
			return fmt.Errorf("--discovery-token-ca-cert-hash %q: must be sha256: and 64 hexadecimal digits", hash)
		}
	}
	return nil
}
