package apiserver

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// serverTLS is how the server shows who it is, and whose client certificates
// it believes.
func (c *Config) serverTLS() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(c.TLSCertFile, c.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("load server certificate: %w", err)
	}
	clients, err := certPool(c.ClientCAFile)
	if err != nil {
		return nil, err
	}
	if err := appendIssuer(&cert, c.ClientCAFile); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    clients,
		NextProtos:   []string{"h2", "http/1.1"},
	}, nil
}

// appendIssuer lets the server show the CA's certificate behind its own when
// that CA is the cluster's. A machine that joins knows no more of the cluster
// than the hash of that CA's key; from the chain it takes the CA, compares the
// hash, and can trust the server. A file that holds a chain already, or a
// certificate of somebody else, stays as it is.
func appendIssuer(cert *tls.Certificate, caFile string) error {
	last, err := x509.ParseCertificate(cert.Certificate[len(cert.Certificate)-1])
	if err != nil {
		return fmt.Errorf("parse server certificate: %w", err)
	}
	if bytes.Equal(last.RawIssuer, last.RawSubject) {
		return nil
	}
	data, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("read CA certificates: %w", err)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		ca, err := x509.ParseCertificate(block.Bytes)
		if err == nil && last.CheckSignatureFrom(ca) == nil {
			cert.Certificate = append(cert.Certificate, ca.Raw)
			return nil
		}
	}
	return nil
}

func certPool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read CA certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}
