package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"
)

// NewRequest makes a key and the request to sign its public half, as PEM (RFC
// 2986): the key never leaves the machine that asks. Of req, whom the
// certificate is for is asked; what it may be used for is the signer's to say.
func NewRequest(req Request) (request, key []byte, err error) {
	private, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("request certificate for %s: %w", req.CommonName, err)
	}
	template := &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: req.CommonName, Organization: req.Organizations},
		DNSNames: req.DNSNames, IPAddresses: req.IPs,
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, private)
	if err != nil {
		return nil, nil, fmt.Errorf("request certificate for %s: %w", req.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), keyPEM, nil
}

// ParseRequest reads one PEM certificate request and checks that who sent it
// has the private key.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check signature of certificate request: %w", err)
	}
	return request, nil
}

// Sign signs somebody else's public key. Of the request only subject, key, DNS
// names and addresses get into the certificate. It ends no later than the CA.
func (ca *CA) Sign(request *x509.CertificateRequest, usage x509.KeyUsage, extended []x509.ExtKeyUsage, lifetime time.Duration) ([]byte, error) {
	template, err := newTemplate(request.Subject, lifetime)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for %s: %w", request.Subject.CommonName, err)
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	template.KeyUsage, template.ExtKeyUsage = usage, extended
	template.DNSNames, template.IPAddresses = request.DNSNames, request.IPAddresses
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, request.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for %s: %w", request.Subject.CommonName, err)
	}
	return certPEM(der), nil
}

// ParseCertificates reads all certificates of a PEM text, such as a server's
// chain: its own first, the CA last.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return list, nil
}

// IPs turns addresses into the form which certificates want.
func IPs[A interface{ AsSlice() []byte }](addrs ...A) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		out = append(out, a.AsSlice())
	}
	return out
}
