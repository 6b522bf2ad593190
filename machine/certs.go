package machine

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

// RenewBefore is how long before its end a certificate counts as old.
const RenewBefore = 30 * 24 * time.Hour

// RenewCerts makes those certificates of this machine anew which end within a
// time, and starts the components which use them. It is what init and join do
// about certificates when they are run again, without a token and without any
// other step, so that a timer can do it (see renewal in unit.go).
func (m *Machine) RenewCerts(ctx context.Context, within time.Duration) error {
	if !needsRoot.OK() {
		return errors.New(needsRoot.Remedy)
	}
	s, err := loadState()
	if err != nil {
		return err
	}
	if s == nil {
		return errors.New("this machine is no node: podarium init or podarium join makes its certificates")
	}
	if s.ControlPlane {
		err = m.issueAgain(s, within)
	} else {
		err = m.requestAgain(ctx, s, within)
	}
	if err != nil {
		return err
	}
	return m.restartChanged(units(s.Cluster, s.Node, s.ControlPlane, nil))
}

// issueAgain is for the machine which has the CA's key.
func (m *Machine) issueAgain(s *state, within time.Duration) error {
	ca, err := pki.LoadCA(components.PKI+"/ca.crt", components.PKI+"/ca.key")
	if err != nil {
		return err
	}
	identities := Identities{Root: "/", CA: ca, Context: contextName, Server: s.Cluster.ServerURL(), RenewBefore: within, Told: m.toldFile}
	if err := errors.Join(identities.ControlPlane(s.Cluster, s.Node, s.ExtraSANs...), identities.Node(s.Node)); err != nil {
		return fmt.Errorf("renew certificates: %w", err)
	}
	return nil
}

// requestAgain is for the others: their kubelet asks, whose own certificate is
// not looked at, for the kubelet renews that by itself.
func (m *Machine) requestAgain(ctx context.Context, s *state, within time.Duration) error {
	caPEM, err := os.ReadFile(components.PKI + "/ca.crt")
	if err != nil {
		return fmt.Errorf("read the cluster's CA: %w", err)
	}
	j := &joiner{Machine: m, root: "/", server: s.Cluster.ServerURL(), caPEM: caPEM, node: s.Node, context: contextName, renewBefore: within}
	asKubelet, err := j.asKubelet()
	if err != nil {
		return err
	}
	return j.nodeCertificates(ctx, asKubelet)
}

// certFiles are all files with certificates which a machine may have, by the
// names that kubeadm gives them.
var certFiles = [][2]string{
	{"admin.conf", AdminConf},
	{"apiserver", components.PKI + "/apiserver.crt"},
	{"apiserver-kubelet-client", components.PKI + "/apiserver-kubelet-client.crt"},
	{"controller-manager.conf", components.Etc + "/controller-manager.conf"},
	{"scheduler.conf", components.Etc + "/scheduler.conf"},
	{"kubelet.conf", components.Etc + "/kubelet.conf"},
	{"kubelet", components.KubeletPK + "/kubelet.crt"},
	{"kube-proxy.conf", components.Etc + "/kube-proxy.conf"},
	{"ca", components.PKI + "/ca.crt"},
}

// CheckExpiration writes a table of the certificates below a root folder and
// how long they still hold, as `kubeadm certs check-expiration` does.
func CheckExpiration(root string, out io.Writer, now time.Time) error {
	table := tabwriter.NewWriter(out, 10, 4, 3, ' ', 0)
	fmt.Fprintln(table, "CERTIFICATE\tEXPIRES\tRESIDUAL TIME\tFILE")
	found := false
	for _, c := range certFiles {
		cert, err := readCert(filepath.Join(root, c[1]))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		found = true
		left := "<expired>"
		if cert.NotAfter.After(now) {
			left = duration.ShortHumanDuration(cert.NotAfter.Sub(now))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c[0], cert.NotAfter.UTC().Format("Jan 02, 2006 15:04 UTC"), left, c[1])
	}
	if !found {
		return errors.New("this machine has no certificates of a cluster: podarium init or podarium join makes them")
	}
	return table.Flush()
}

// readCert finds a file's certificate: in PEM, or of a kubeconfig's user.
func readCert(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err == nil && strings.HasSuffix(path, ".conf") {
		data, err = clientCert(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("read certificate of %s: %w", path, err)
	}
	return certs[0], nil
}

// clientCert is within the kubeconfig, or in a file which it names.
func clientCert(path string) ([]byte, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, err
	}
	for _, user := range config.AuthInfos {
		if user.ClientCertificate != "" {
			return os.ReadFile(user.ClientCertificate)
		}
		return user.ClientCertificateData, nil
	}
	return nil, fmt.Errorf("%s names no user", path)
}
