package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
)

// A cluster made by somebody else may have an RSA key.
func TestPublicKeyRSA(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sa.key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := NewTokens("https://issuer", file, []string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := tokens.PublicKeys()
	if len(keys) != 1 || keys[0].Type != "RSA" || keys[0].Alg != "RS256" || keys[0].Use != "sig" || keys[0].E != "AQAB" || keys[0].ID != tokens.keyID {
		t.Fatalf("keys %+v", keys)
	}
	n, err := base64.RawURLEncoding.DecodeString(keys[0].N)
	if err != nil || new(big.Int).SetBytes(n).Cmp(private.N) != 0 {
		t.Errorf("modulus %s, %v", keys[0].N, err)
	}
}
