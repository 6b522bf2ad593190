package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	proxyutil "k8s.io/apimachinery/pkg/util/proxy"

	"github.com/podarium/podarium/apiserver/resource"
)

// The subresource proxy lets somebody who reaches only the API server talk HTTP
// with a pod, a Service or a kubelet:
//
//	kubectl get --raw /api/v1/namespaces/default/services/web:8000/proxy/index.html
//	  ─▶ an endpoint of web's port 8000, 10.244.2.5:80   GET /index.html
//
// The name may carry a scheme and a port, "https:web:8443"; the port of a
// Service may be its number or its name. The server itself connects to the
// pod's address: node ports and rules of the service proxy play no part.

// newBackendTransport connects to pods. Their certificates say nothing to this
// server, so they are not looked at.
func newBackendTransport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}
}

func (s *Server) proxy(w http.ResponseWriter, r *request) error {
	if r.rest == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		// Relative links in a page only work below a path that ends in a slash.
		to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}
		http.Redirect(w, r.Request, to.String(), http.StatusMovedPermanently)
		return nil
	}
	to, transport, err := s.backend(r)
	if err != nil {
		return err
	}
	if to.Path, err = url.PathUnescape(r.rest); err != nil {
		return badRequest("%v", err)
	}
	to.RawPath, to.RawQuery = r.rest, r.URL.RawQuery
	passOn := s.passOn(r, transport, to)
	// A redirection to /login and a link to /style.css have to lead through this server again.
	passOn.Transport = &proxyutil.Transport{PathPrepend: strings.TrimSuffix(r.URL.EscapedPath(), r.rest), RoundTripper: transport}
	s.forward(w, r, passOn)
	return nil
}

// backend is where the request goes, without the path.
func (s *Server) backend(r *request) (*url.URL, *http.Transport, error) {
	scheme, name, port, ok := splitProxyName(r.name)
	if !ok {
		return nil, nil, badRequest("invalid %s request %q", r.kind.Singular, r.name)
	}
	var host string
	var err error
	switch r.kind {
	case resource.Node:
		if host, err = s.kubeletAddress(r.Context(), name); err == nil && port != "" {
			address, _, _ := net.SplitHostPort(host)
			host = net.JoinHostPort(address, port)
		}
		return &url.URL{Scheme: "https", Host: host}, s.kubelets, err
	case resource.Pod:
		host, err = s.podAddress(r.Context(), r.namespace, name, port)
	default:
		host, err = s.serviceAddress(r.Context(), r.namespace, name, port)
	}
	if err != nil {
		return nil, nil, err
	}
	return &url.URL{Scheme: scheme, Host: host}, s.backends, proxyable(host)
}

// splitProxyName takes "web", "web:80", "https:web:443" and "https:web:" apart.
func splitProxyName(s string) (scheme, name, port string, ok bool) {
	switch parts := strings.Split(s, ":"); len(parts) {
	case 1:
		return "http", parts[0], "", parts[0] != ""
	case 2:
		return "http", parts[0], parts[1], parts[0] != ""
	case 3:
		scheme, name, port = parts[0], parts[1], parts[2]
		if scheme == "" {
			scheme = "http"
		}
		return scheme, name, port, (scheme == "http" || scheme == "https") && name != ""
	}
	return "", "", "", false
}

// podAddress is the pod's IP with the asked port, else with the first one that
// a container names.
func (s *Server) podAddress(ctx context.Context, namespace, name, port string) (string, error) {
	obj, err := s.lookup(ctx, resource.Pod, namespace, name)
	if err != nil {
		return "", err
	}
	pod := obj.(*corev1.Pod)
	if pod.Status.PodIP == "" {
		return "", badRequest("pod %s has no address yet", name)
	}
	for i := 0; port == "" && i < len(pod.Spec.Containers); i++ {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			port = strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	if port == "" {
		return pod.Status.PodIP, nil
	}
	return net.JoinHostPort(pod.Status.PodIP, port), nil
}

// serviceAddress is one ready endpoint of the Service's port, each with the
// same chance.
func (s *Server) serviceAddress(ctx context.Context, namespace, name, port string) (string, error) {
	obj, err := s.lookup(ctx, resource.Service, namespace, name)
	if err != nil {
		return "", err
	}
	portName, err := servicePortName(obj.(*corev1.Service), port)
	if err != nil {
		return "", err
	}
	prefix := resource.EndpointSlice.Prefix
	var hosts []string
	for _, o := range s.store.CachedList(prefix, resource.EndpointSlice.Under(namespace)) {
		if o.GetLabels()[discoveryv1.LabelServiceName] == name {
			hosts = append(hosts, readyHosts(o.(*discoveryv1.EndpointSlice), portName)...)
		}
	}
	if len(hosts) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return hosts[rand.IntN(len(hosts))], nil
}

// servicePortName finds the name of a port that is given by number; "" stands
// for any port.
func servicePortName(svc *corev1.Service, port string) (string, error) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return port, nil
	}
	for _, p := range svc.Spec.Ports {
		if int(p.Port) == n {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", n, svc.Name))
}

func readyHosts(slice *discoveryv1.EndpointSlice, portName string) []string {
	var hosts []string
	for _, p := range slice.Ports {
		if p.Port == nil || (portName != "" && (p.Name == nil || *p.Name != portName)) {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				hosts = append(hosts, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
			}
		}
	}
	return hosts
}

// proxyable refuses addresses that would lead to the server's own machine:
// whoever may write endpoints must not reach what listens on its loopback.
func proxyable(host string) error {
	if address, _, err := net.SplitHostPort(host); err == nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return badRequest("address not allowed")
	}
	return nil
}
