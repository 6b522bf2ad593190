package apiserver

import (
	"net/http"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// evict answers POST pods/NAME/eviction: a polite deletion, as `kubectl drain`
// asks for it.
func (s *Server) evict(w http.ResponseWriter, r *request) error {
	o, err := writeOptionsOf(r.Request, "CreateOptions")
	if err != nil {
		return err
	}
	eviction, err := decodePart(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), &policyv1.Eviction{})
	if err != nil {
		return err
	}
	if eviction.Name != "" && eviction.Name != r.name {
		return badRequest("name in URL does not match name in Eviction object")
	}
	del := eviction.DeleteOptions
	if del == nil {
		del = &metav1.DeleteOptions{}
	}
	if o.dryRun {
		del.DryRun = []string{metav1.DryRunAll}
	}
	if _, _, err := s.deleteObject(r.Context(), r.kind, r.namespace, r.name, del); err != nil {
		return err
	}
	s.respond(w, r.Request, http.StatusCreated, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusCreated,
	})
	return nil
}
