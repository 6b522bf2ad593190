// Package pki makes the keys and certificates a cluster lives on.
//
// Everybody in the cluster is known by an X.509 certificate of the cluster's
// own CA: the subject's common name is the user, its organizations are the
// groups (Kubernetes reads O=system:nodes, CN=system:node:node-1 as "the
// kubelet of node-1"). Keys are ECDSA P-256: making one costs 20 µs where an
// RSA key of 2048 bits costs 100 ms, and a lab of three nodes needs a dozen.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Lifetimes as kubeadm has them: ten years for the CA, one for the rest.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
)

// backdate lets a certificate be valid on a machine whose clock is a little late.
const backdate = 5 * time.Minute

// CA signs certificates.
type CA struct {
	CertPEM []byte
	KeyPEM  []byte

	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a self-signed authority with the given common name.
func NewCA(commonName string) (*CA, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", commonName, err)
	}
	template, err := newTemplate(pkix.Name{CommonName: commonName}, caLifetime)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", commonName, err)
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	template.SubjectKeyId, err = keyID(key)
	if err != nil {
		return nil, fmt.Errorf("make CA %s: %w", commonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA %s: %w", commonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse CA %s: %w", commonName, err)
	}
	return &CA{CertPEM: certPEM(der), KeyPEM: keyPEM, cert: cert, key: key}, nil
}

// LoadCA reads an authority from its two PEM files.
func LoadCA(certFile, keyFile string) (*CA, error) {
	certBytes, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	keyBytes, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	block, _ := pem.Decode(certBytes)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("load CA: %s holds no PEM certificate", certFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load CA: parse %s: %w", certFile, err)
	}
	key, err := ParseKey(keyBytes)
	if err != nil {
		return nil, fmt.Errorf("load CA: parse %s: %w", keyFile, err)
	}
	return &CA{CertPEM: certBytes, KeyPEM: keyBytes, cert: cert, key: key}, nil
}

// Request says whom a certificate is for.
type Request struct {
	CommonName    string   // the user, e.g. "system:node:node-1"
	Organizations []string // the groups, e.g. "system:nodes"
	DNSNames      []string
	IPs           []net.IP
	Server        bool // may be shown by a TLS server
	Client        bool // may be shown by a TLS client
}

// Issue makes a key and signs a certificate for it; both come as PEM.
func (ca *CA) Issue(req Request) (certificate, key []byte, err error) {
	private, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate for %s: %w", req.CommonName, err)
	}
	template, err := newTemplate(pkix.Name{CommonName: req.CommonName, Organization: req.Organizations}, leafLifetime)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate for %s: %w", req.CommonName, err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.DNSNames = req.DNSNames
	template.IPAddresses = req.IPs
	if req.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if req.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, private.Public(), ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue certificate for %s: %w", req.CommonName, err)
	}
	return certPEM(der), keyPEM, nil
}

// Hash is the pin of the authority's public key as `--discovery-token-ca-cert-hash`
// writes it: "sha256:" and the hex digest of the DER SubjectPublicKeyInfo.
func (ca *CA) Hash() string { return Hash(ca.cert) }

// Hash is the pin of any authority's certificate.
func Hash(authority *x509.Certificate) string {
	sum := sha256.Sum256(authority.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// EncodeCertificate is a certificate as PEM.
func EncodeCertificate(cert *x509.Certificate) []byte { return certPEM(cert.Raw) }

// NewSigningKey makes the pair which signs and verifies ServiceAccount tokens.
func NewSigningKey() (private, public []byte, err error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make signing key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode public key: %w", err)
	}
	return keyPEM, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Kubeconfig is a file with one cluster, one user and the context cluster,
// everything embedded so that it can be copied to another machine.
func Kubeconfig(cluster, user, server string, caPEM, certPEM, keyPEM []byte) ([]byte, error) {
	return kubeconfig(cluster, user, server, caPEM, &clientcmdapi.AuthInfo{ClientCertificateData: certPEM, ClientKeyData: keyPEM})
}

// KubeconfigWithFile is Kubeconfig for a user whose certificate and key are
// together in a file, from which they are read again when they change.
func KubeconfigWithFile(cluster, user, server string, caPEM []byte, pairFile string) ([]byte, error) {
	return kubeconfig(cluster, user, server, caPEM, &clientcmdapi.AuthInfo{ClientCertificate: pairFile, ClientKey: pairFile})
}

func kubeconfig(cluster, user, server string, caPEM []byte, auth *clientcmdapi.AuthInfo) ([]byte, error) {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: caPEM}
	cfg.AuthInfos[user] = auth
	cfg.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	cfg.CurrentContext = cluster
	out, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("write kubeconfig for %s: %w", user, err)
	}
	return out, nil
}

func newTemplate(subject pkix.Name, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads a private key, as PEM.
func ParseKey(keyPEM []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("neither an EC nor a PKCS #8 key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}

// keyID is RFC 5280 §4.2.1.2's first method: the SHA-1 of the public key.
func keyID(key *ecdsa.PrivateKey) ([]byte, error) {
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha1.Sum(public)
	return sum[:], nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
