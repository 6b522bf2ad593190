package apiserver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"strconv"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func (s *Server) userOfToken(ctx context.Context, token string) (*auth.User, error) {
	return nil, errors.New("no tokens")
}

func (s *Server) reviews() map[schema.GroupVersionResource]func(http.ResponseWriter, *request) error {
	return nil
}

func sortedReviews(s *Server) iter.Seq2[schema.GroupVersionResource, string] {
	return func(yield func(schema.GroupVersionResource, string) bool) {}
}

func (s *Server) address() string {
	return net.JoinHostPort(s.cfg.AdvertiseAddress.String(), strconv.Itoa(s.cfg.SecurePort))
}

func (s *Server) keepKubernetesService(ctx context.Context) {}

func (s *Server) bootstrap(ctx context.Context) error {
	for _, name := range []string{"kube-system", "kube-public", "kube-node-lease", "default"} {
		_, err := s.createObject(ctx, resource.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, writeOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	return nil
}

func (s *Server) allocating(kind *resource.Kind, obj, current resource.Object, write func(resource.Object, []store.Claim, []string) (resource.Object, error)) (resource.Object, error) {
	return write(obj, nil, nil)
}

func (s *Server) reallocate(kind *resource.Kind, obj, current resource.Object) ([]store.Claim, []string, error) {
	return nil, nil, nil
}
func (s *Server) releases(kind *resource.Kind, current resource.Object) []string { return nil }
func (s *Server) admitCreate(ctx context.Context, kind *resource.Kind, obj resource.Object) error {
	return nil
}
func (s *Server) admitUpdate(ctx context.Context, kind *resource.Kind, obj, current resource.Object, sub string) error {
	return nil
}
func (s *Server) admitDelete(kind *resource.Kind, name string) error { return nil }
func (s *Server) routeSubresource(w http.ResponseWriter, r *request) error {
	if !r.kind.HasSubresource(r.subresource) {
		return errNoSuchPath
	}
	if r.subresource == "status" {
		switch r.verb {
		case "get":
			return s.get(w, r)
		case "update":
			return s.update(w, r)
		case "patch":
			return s.patch(w, r)
		}
		return errMethod
	}
	return errNoSuchPath
}
