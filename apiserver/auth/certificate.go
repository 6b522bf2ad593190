package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// credentialID names a certificate in SelfSubjectReviews and logs, as upstream does.
func credentialID(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "X509SHA256=" + hex.EncodeToString(sum[:])
}
