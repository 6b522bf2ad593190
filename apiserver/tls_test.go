package apiserver

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"strings"
	"testing"
)

// Who knows nothing but the hash of the CA's key finds the CA in the chain that
// the server shows, although the file holds the server's certificate alone.
func TestChainHasCA(t *testing.T) {
	c := startServer(t)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the point is to trust nobody yet
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	chain := conn.ConnectionState().PeerCertificates
	if len(chain) != 2 {
		t.Fatalf("the chain has %d certificates, want the server's and the CA's", len(chain))
	}
	sum := sha256.Sum256(chain[1].RawSubjectPublicKeyInfo)
	if pin := "sha256:" + hex.EncodeToString(sum[:]); pin != c.ca.Hash() {
		t.Errorf("hash %s, want %s", pin, c.ca.Hash())
	}
	if err := chain[0].CheckSignatureFrom(chain[1]); err != nil {
		t.Error(err)
	}
}
