package controllers

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/internal/reconcile"
)

// csrApprover approves the requests by which a machine becomes a node and stays one; all others wait for
// `kubectl certificate approve`. Of each kind it asks two things: does the request look as it should
// (approvals, below), and may the requestor have such a certificate without a person's look? The second is
// RBAC's to say, by the right to create a subresource that exists for this question only:
//
//	certificatesigningrequests/nodeclient      a bootstrap token asks for a kubelet's first certificate
//	certificatesigningrequests/selfnodeclient  a kubelet asks for the next one, before the first ends
//	certificatesigningrequests/selfnodeserver  a kubelet asks for the certificate of its port 10250
//	certificatesigningrequests/proxyclient     a kubelet asks for the certificate of the kube-proxy beside it
//
// The first two are upstream's. The others upstream leaves to a person, or to a DaemonSet with a token;
// who wants that back deletes the ClusterRoleBindings podarium:*.
type csrApprover struct {
	client   kubernetes.Interface
	requests certificateslisters.CertificateSigningRequestLister
	nodes    corelisters.NodeLister
	ranges   networkinglisters.ServiceCIDRLister
}

func csrApproving(c *cluster) loop {
	requests := c.informers.Certificates().V1().CertificateSigningRequests()
	a := &csrApprover{
		client: c.client, requests: requests.Lister(), nodes: c.informers.Core().V1().Nodes().Lister(),
		ranges: c.informers.Networking().V1().ServiceCIDRs().Lister(),
	}
	queue := reconcile.New("csr-approving", a.sync)
	kube.OnChange(requests.Informer(), func(_, is *certificatesv1.CertificateSigningRequest) {
		if is != nil {
			queue.Add(is.Name)
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 1) }
}

func (a *csrApprover) sync(ctx context.Context, name string) error {
	csr, err := a.requests.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || len(csr.Status.Certificate) > 0 || csrIs(csr, certificatesv1.CertificateApproved) || csrIs(csr, certificatesv1.CertificateDenied) {
		return err
	}
	request, err := pki.ParseRequest(csr.Spec.Request)
	if err != nil {
		slog.Info("certificate request not approved", "name", name, "err", err)
		return nil
	}
	for _, kind := range approvals {
		if !kind.fits(csr, request) {
			continue
		}
		if reason := a.foreignAddress(csr, request); reason != "" {
			slog.Warn("certificate request not approved", "name", name, "from", csr.Spec.Username, "reason", reason)
			return nil
		}
		allowed, err := a.may(ctx, csr, kind.subresource)
		if err != nil {
			return err
		}
		if allowed {
			return a.approve(ctx, csr, kind.message)
		}
	}
	slog.Info("certificate request waits for a person's approval", "name", name, "signer", csr.Spec.SignerName, "from", csr.Spec.Username)
	return nil
}

// approval is a kind of request which may be approved without a person.
type approval struct {
	subresource, signer string
	matches             func(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest) bool
	message             string
}

// approvals are tried in this order: a kubelet which asks for itself is the narrower case.
var approvals = []approval{
	{"selfnodeclient", certificatesv1.KubeAPIServerClientKubeletSignerName, forSelf, "Auto approving self kubelet client certificate after SubjectAccessReview."},
	{"nodeclient", certificatesv1.KubeAPIServerClientKubeletSignerName, forAnyNode, "Auto approving kubelet client certificate after SubjectAccessReview."},
	{"selfnodeserver", certificatesv1.KubeletServingSignerName, forOwnPort, "Auto approving self kubelet server certificate after SubjectAccessReview."},
	{"proxyclient", certificatesv1.KubeAPIServerClientSignerName, forProxy, "Auto approving kube-proxy client certificate after SubjectAccessReview."},
}

// fits: what the signer would refuse need not be approved.
func (k approval) fits(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	return k.signer == csr.Spec.SignerName && signers[k.signer].check(request, csr.Spec.Usages) == nil && k.matches(csr, request)
}

// forAnyNode: the signer's own rules say already that the subject is a kubelet.
func forAnyNode(*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest) bool {
	return true
}

func forSelf(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	return csr.Spec.Username == request.Subject.CommonName
}

// forOwnPort: a kubelet's server certificate carries its node's name and addresses, and no other name.
func forOwnPort(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	node := strings.TrimPrefix(csr.Spec.Username, nodeUserPrefix)
	return forSelf(csr, request) && !slices.ContainsFunc(request.DNSNames, func(name string) bool { return name != node })
}

// forProxy: the identity that every kube-proxy has, asked for by a kubelet.
func forProxy(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) bool {
	return slices.Contains(csr.Spec.Groups, nodesGroup) && request.Subject.CommonName == "system:kube-proxy" &&
		slices.Equal(request.Subject.Organization, []string{"system:node-proxier"}) &&
		len(request.DNSNames)+len(request.IPAddresses) == 0
}

// foreignAddress tells whether a server certificate is wanted for an address which is not the node's: one of
// another node, where the API server may be, or of a Service. A node whose addresses are known gets no others;
// one that is about to join has said none yet.
func (a *csrApprover) foreignAddress(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) string {
	nodes, _ := a.nodes.List(everything)
	ranges, _ := a.ranges.List(everything)
	own := strings.TrimPrefix(csr.Spec.Username, nodeUserPrefix)
	for _, ip := range request.IPAddresses {
		for _, node := range nodes {
			has := slices.ContainsFunc(node.Status.Addresses, func(address corev1.NodeAddress) bool { return ip.Equal(net.ParseIP(address.Address)) })
			switch {
			case has && node.Name != own:
				return fmt.Sprintf("%s is an address of node %s", ip, node.Name)
			case !has && node.Name == own && len(node.Status.Addresses) > 0:
				return fmt.Sprintf("%s is no address of node %s", ip, own)
			}
		}
		for _, r := range ranges {
			for _, text := range r.Spec.CIDRs {
				if _, cidr, err := net.ParseCIDR(text); err == nil && cidr.Contains(ip) {
					return fmt.Sprintf("%s is in the range of Services %s", ip, text)
				}
			}
		}
	}
	return ""
}

// may asks the API server, as anybody can with `kubectl auth can-i create
// certificatesigningrequests/nodeclient --as … --as-group …`.
func (a *csrApprover) may(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range csr.Spec.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: certificatesv1.GroupName, Version: "*", Resource: "certificatesigningrequests", Subresource: subresource, Verb: "create",
		},
	}}
	answer, err := a.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether %s may have %s: %w", csr.Spec.Username, subresource, err)
	}
	return answer.Status.Allowed, nil
}

func (a *csrApprover) approve(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, message string) error {
	csr = csr.DeepCopy()
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: message, LastUpdateTime: metav1.Now(),
	})
	if _, err := a.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("approve certificate request %s: %w", csr.Name, err)
	}
	slog.Info("certificate request approved", "name", csr.Name, "signer", csr.Spec.SignerName, "from", csr.Spec.Username)
	return nil
}
