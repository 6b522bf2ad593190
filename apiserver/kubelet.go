package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podarium/podarium/apiserver/resource"
)

// Logs, exec, attach and port-forward are done by the kubelet of the pod's
// node; this server only passes them on. It has checked who asks; the kubelet
// knows it by its own client certificate.
//
//	GET  pods/web/log            ─▶ GET  https://192.168.56.12:10250/containerLogs/default/web/c
//	POST pods/web/exec?command=… ─▶ POST https://192.168.56.12:10250/exec/default/web/c?command=…
//
// exec, attach and port-forward switch the connection from HTTP to a protocol
// with several streams (SPDY, or WebSocket with channels). From then on, bytes
// are copied in both directions and nobody here looks at them.

const kubeletPort = 10250

// kubeletTransport is a client of kubelets. HTTP/1.1 only: a connection that
// is to be taken over cannot be shared.
func (c *Config) kubeletTransport() (*http.Transport, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.KubeletCA != "" {
		pool, err := certPool(c.KubeletCA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = pool
	}
	if c.KubeletClientCert != "" {
		cert, err := tls.LoadX509KeyPair(c.KubeletClientCert, c.KubeletClientKey)
		if err != nil {
			return nil, fmt.Errorf("load kubelet client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return &http.Transport{
		TLSClientConfig: cfg, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}, nil
}

func (s *Server) proxyToKubelet(w http.ResponseWriter, r *request) error {
	obj, err := s.store.Get(r.Context(), resource.Pod.Key(r.namespace, r.name))
	if err != nil {
		return apiError(err, resource.Pod.GR(), r.name)
	}
	pod := obj.(*corev1.Pod)
	to, err := kubeletPath(r, pod)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		if r.subresource == "log" {
			w.WriteHeader(http.StatusNoContent) // nothing was said yet
			return nil
		}
		return badRequest("pod %s does not have a host assigned", pod.Name)
	}
	if to.Host, err = s.kubeletAddress(r.Context(), pod.Spec.NodeName); err != nil {
		return err
	}
	if r.subresource == "log" && websocket.IsWebSocketUpgrade(r.Request) {
		return s.logOverWebSocket(w, r, to)
	}
	proxy := s.passOn(r, s.kubelets, to)
	if r.subresource == "log" {
		proxy.ModifyResponse = func(resp *http.Response) error { return logError(r, resp) }
	}
	s.forward(w, r, proxy)
	return nil
}

// kubeletAddress is the node's InternalIP with the port of its kubelet.
func (s *Server) kubeletAddress(ctx context.Context, name string) (string, error) {
	obj, err := s.lookup(ctx, resource.Node, "", name)
	if err != nil {
		return "", err
	}
	node := obj.(*corev1.Node)
	port := kubeletPort
	if p := node.Status.DaemonEndpoints.KubeletEndpoint.Port; p > 0 {
		port = int(p)
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return net.JoinHostPort(a.Address, strconv.Itoa(port)), nil
		}
	}
	return "", apierrors.NewInternalError(fmt.Errorf("no preferred addresses found for node %s; known addresses: %v", name, node.Status.Addresses))
}

// kubeletPath translates the subresource and its parameters.
func kubeletPath(r *request, pod *corev1.Pod) (*url.URL, error) {
	q, out := r.URL.Query(), url.Values{}
	keep := func(names ...string) {
		for _, name := range names {
			if v, ok := q[name]; ok {
				out[name] = v
			}
		}
	}
	path := ""
	switch r.subresource {
	case "portforward":
		keep("port", "ports")
		path = fmt.Sprintf("/portForward/%s/%s", pod.Namespace, pod.Name)
	default:
		container, err := containerOf(pod, q.Get("container"))
		if err != nil {
			return nil, err
		}
		switch r.subresource {
		case "log":
			keep("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
			path = "/containerLogs"
		default:
			streams := map[string]string{"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
			for ours, theirs := range streams {
				if truthy(q.Get(ours)) {
					out.Set(theirs, "1")
				}
			}
			keep("command")
			path = "/" + r.subresource
		}
		path = fmt.Sprintf("%s/%s/%s/%s", path, pod.Namespace, pod.Name, container)
	}
	return &url.URL{Scheme: "https", Path: path, RawQuery: out.Encode()}, nil
}

// containerOf is the container that is meant: the only one, or the named one.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	var names, inits []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		inits = append(inits, c.Name)
	}
	switch {
	case name != "":
		added := slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool { return c.Name == name })
		if !slices.Contains(names, name) && !slices.Contains(inits, name) && !added {
			return "", badRequest("container %s is not valid for pod %s", name, pod.Name)
		}
		return name, nil
	case len(names) == 1:
		return names[0], nil
	}
	text := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " "))
	if len(inits) > 0 {
		text += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(inits, " "))
	}
	return "", badRequest("%s", text)
}

// passOn passes the request on, and the answer back, as they are.
func (s *Server) passOn(r *request, transport *http.Transport, to *url.URL) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // a followed log comes line by line
		ErrorLog:      slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL, p.Out.Host = to, to.Host
			p.Out.Header.Del("Authorization") // the client's own, not for others
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return
			}
			s.fail(w, r.Request, backendError(r, err))
		},
	}
}

// forward runs the proxy until both sides have ended, or this server does.
func (s *Server) forward(w http.ResponseWriter, r *request, proxy *httputil.ReverseProxy) {
	ctx, cancel := s.untilStopping(r.Context())
	defer cancel()
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

// untilStopping is a context which also ends with this server: its end must not
// wait for somebody's shell.
func (s *Server) untilStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func backendError(r *request, err error) error {
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return status
	}
	switch r.subresource {
	case "log":
		return err
	case "proxy":
		return apierrors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
	}
	return apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
}

// logError makes a Status of a kubelet's plain text error.
func logError(r *request, resp *http.Response) error {
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	resp.Body.Close()
	message := string(bytes.TrimSpace(text))
	switch resp.StatusCode {
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(message)
	case http.StatusInternalServerError:
		return apierrors.NewInternalError(errors.New(message))
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, "get", resource.Pod.GR(), r.name, message, 0, true)
}
