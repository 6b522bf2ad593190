package controllers

import (
	"crypto/x509"
	"net"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/pki"
)

const (
	clientSigner  = certificatesv1.KubeAPIServerClientSignerName
	kubeletSigner = certificatesv1.KubeAPIServerClientKubeletSignerName
	servingSigner = certificatesv1.KubeletServingSignerName
)

var (
	clientUse = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	serverUse = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	bothUses  = append(slices.Clone(clientUse), certificatesv1.UsageServerAuth)
)

func csrOf(t *testing.T, signer, user string, groups []string, want pki.Request, usages []certificatesv1.KeyUsage) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	request, _, err := pki.NewRequest(want)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "csr-1", CreationTimestamp: metav1.Now()},
		Spec:       certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Username: user, Groups: groups, Request: request, Usages: usages},
	}
}

func kubeletRequest(name string, ips ...string) pki.Request {
	r := pki.Request{CommonName: "system:node:" + name, Organizations: []string{"system:nodes"}}
	for _, ip := range ips {
		r.IPs = append(r.IPs, net.ParseIP(ip))
	}
	return r
}

// TestSigners: what each signer refuses, and in which words.
func TestSigners(t *testing.T) {
	named := kubeletRequest("node-2")
	named.DNSNames = []string{"node-2"}
	for _, test := range []struct {
		name, signer string
		want         pki.Request
		usages       []certificatesv1.KeyUsage
		refused      string
	}{
		{"kubelet client", kubeletSigner, kubeletRequest("node-2"), clientUse, ""},
		{"kubelet client as server", kubeletSigner, kubeletRequest("node-2"), bothUses, `usage "server auth" is not allowed`},
		{"kubelet client without purpose", kubeletSigner, kubeletRequest("node-2"), serverUse, `usages did not include "client auth"`},
		{"kubelet client with a name", kubeletSigner, named, clientUse, "DNS and IP subjectAltNames are not allowed"},
		{"kubelet client of another group", kubeletSigner, pki.Request{CommonName: "system:node:node-2", Organizations: []string{"system:nodes", "dev"}}, clientUse, "subject organization is not system:nodes"},
		{"kubelet client of no node", kubeletSigner, pki.Request{CommonName: "system:node:", Organizations: []string{"system:nodes"}}, clientUse, "subject common name does not begin with system:node:"},
		{"kubelet serving", servingSigner, kubeletRequest("node-2", "192.168.56.12"), serverUse, ""},
		{"kubelet serving without a name", servingSigner, kubeletRequest("node-2"), serverUse, "DNS or IP subjectAltName is required"},
		{"any client", clientSigner, pki.Request{CommonName: "bob", Organizations: []string{"dev"}}, clientUse, ""},
		{"a master", clientSigner, pki.Request{CommonName: "bob", Organizations: []string{"system:masters"}}, clientUse, "use of system:masters in certificate subject is not allowed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			csr := csrOf(t, test.signer, "somebody", nil, test.want, test.usages)
			request, err := pki.ParseRequest(csr.Spec.Request)
			if err != nil {
				t.Fatal(err)
			}
			said := ""
			if err := signers[test.signer].check(request, test.usages); err != nil {
				said = err.Error()
			}
			if said != test.refused {
				t.Errorf("signer says %q, want %q", said, test.refused)
			}
		})
	}
}

// TestApprovals: which right each kind of request is asked for; "" waits for a person.
func TestApprovals(t *testing.T) {
	node, nodes := "system:node:node-2", []string{"system:nodes", "system:authenticated"}
	token, bootstrappers := "system:bootstrap:abcdef", []string{"system:bootstrappers"}
	proxy := pki.Request{CommonName: "system:kube-proxy", Organizations: []string{"system:node-proxier"}}
	other := kubeletRequest("node-2", "192.168.56.12")
	other.DNSNames = []string{"node-2", "kubernetes.default"}
	for _, test := range []struct {
		name, user string
		groups     []string
		signer     string
		want       pki.Request
		usages     []certificatesv1.KeyUsage
		right      string
	}{
		{"a machine joins", token, bootstrappers, kubeletSigner, kubeletRequest("node-2"), clientUse, "nodeclient"},
		{"a kubelet renews", node, nodes, kubeletSigner, kubeletRequest("node-2"), clientUse, "selfnodeclient"},
		{"a kubelet asks as another", node, nodes, kubeletSigner, kubeletRequest("node-1"), clientUse, "nodeclient"},
		{"a kubelet's port", node, nodes, servingSigner, kubeletRequest("node-2", "192.168.56.12"), serverUse, "selfnodeserver"},
		{"another kubelet's port", node, nodes, servingSigner, kubeletRequest("node-1", "192.168.56.12"), serverUse, ""},
		{"a kubelet's port with a foreign name", node, nodes, servingSigner, other, serverUse, ""},
		{"a token asks for a port", token, bootstrappers, servingSigner, kubeletRequest("node-2", "192.168.56.12"), serverUse, ""},
		{"the proxy beside a kubelet", node, nodes, clientSigner, proxy, clientUse, "proxyclient"},
		{"a token asks for a proxy", token, bootstrappers, clientSigner, proxy, clientUse, ""},
		{"somebody else", "bob", nil, clientSigner, pki.Request{CommonName: "bob"}, clientUse, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			csr := csrOf(t, test.signer, test.user, test.groups, test.want, test.usages)
			request, err := pki.ParseRequest(csr.Spec.Request)
			if err != nil {
				t.Fatal(err)
			}
			right := ""
			for _, kind := range approvals {
				if right == "" && kind.fits(csr, request) {
					right = kind.subresource
				}
			}
			if right != test.right {
				t.Errorf("asked for the right to %q, want %q", right, test.right)
			}
		})
	}
}

// TestForeignAddress: nobody gets a server certificate for an address that is not its own.
func TestForeignAddress(t *testing.T) {
	nodes, ranges := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil), cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
	for name, ip := range map[string]string{"node-1": "192.168.56.11", "node-2": "192.168.56.12"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}
		if err := nodes.Add(node); err != nil {
			t.Fatal(err)
		}
	}
	if err := ranges.Add(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/12"}}}); err != nil {
		t.Fatal(err)
	}
	a := &csrApprover{nodes: corelisters.NewNodeLister(nodes), ranges: networkinglisters.NewServiceCIDRLister(ranges)}
	for _, test := range []struct{ node, ip, want string }{
		{"node-2", "192.168.56.12", ""},
		{"node-2", "192.168.56.11", "192.168.56.11 is an address of node node-1"},
		{"node-2", "192.168.56.99", "192.168.56.99 is no address of node node-2"},
		{"node-9", "192.168.56.19", ""}, // about to join
		{"node-9", "192.168.56.11", "192.168.56.11 is an address of node node-1"},
		{"node-9", "10.96.0.1", "10.96.0.1 is in the range of Services 10.96.0.0/12"},
	} {
		csr := csrOf(t, servingSigner, "system:node:"+test.node, nil, kubeletRequest(test.node, test.ip), serverUse)
		request := &x509.CertificateRequest{IPAddresses: []net.IP{net.ParseIP(test.ip)}}
		if got := a.foreignAddress(csr, request); got != test.want {
			t.Errorf("%s asks for %s: %q, want %q", test.node, test.ip, got, test.want)
		}
	}
}

// TestOldRequestsEnd: an hour after the decision, or a day after nobody took one.
func TestOldRequestsEnd(t *testing.T) {
	made := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	csr := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr-1", CreationTimestamp: metav1.NewTime(made)}}
	if got, want := csrEnd(csr), made.Add(24*time.Hour); !got.Equal(want) {
		t.Errorf("pending request ends at %v, want %v", got, want)
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, LastUpdateTime: metav1.NewTime(made.Add(20 * time.Hour)),
	})
	if got, want := csrEnd(csr), made.Add(21*time.Hour); !got.Equal(want) {
		t.Errorf("approved request ends at %v, want %v", got, want)
	}
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)
	if err := store.Add(csr); err != nil {
		t.Fatal(err)
	}
	cleaner := &csrCleaner{requests: certificateslisters.NewCertificateSigningRequestLister(store)}
	// Without a client: to delete before the time would panic.
	if err := cleaner.sync(t.Context(), "csr-1", made.Add(20*time.Hour)); err != nil {
		t.Error(err)
	}
}

// TestTokenEnd: a token without a date never ends, one with a broken date has.
func TestTokenEnd(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "2026-11-01T12:00:00Z": at, "tomorrow": {}} {
		end, ok := tokenEnd(&corev1.Secret{Data: map[string][]byte{"expiration": []byte(text)}})
		if !end.Equal(want) || ok == (text == "") {
			t.Errorf("expiration %q: %v %v", text, end, ok)
		}
	}
}
