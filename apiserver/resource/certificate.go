package resource

import (
	"crypto/x509"
	"encoding/pem"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CertificateSigningRequest asks the cluster's CA for a certificate. Somebody
// approves it through the subresource approval (`kubectl certificate approve`),
// then a signer writes the certificate into its status.
var CertificateSigningRequest = &Kind{
	GroupVersion: certificatesv1.SchemeGroupVersion,
	Kind:         "CertificateSigningRequest", Plural: "certificatesigningrequests", Singular: "certificatesigningrequest", ShortNames: []string{"csr"},
	Prefix:    "/registry/certificatesigningrequests/",
	New:       func() Object { return &certificatesv1.CertificateSigningRequest{} },
	NewList:   func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },
	NameRule:  roleName,
	FixedSpec: true,
	Validate:  check(validateCertificate),
	CheckPart: map[string]func(obj, old Object) field.ErrorList{"approval": check(validateApproval)},
	Fields: selectable(func(c *certificatesv1.CertificateSigningRequest) fields.Set {
		return fields.Set{"spec.signerName": c.Spec.SignerName}
	}),
	Status:       true,
	Subresources: []Subresource{{Name: "approval", Kind: "CertificateSigningRequest", Verbs: []string{"get", "patch", "update"}}},
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Age", "string"), column("SignerName", "string"), column("Requestor", "string"),
		column("RequestedDuration", "string"), column("Condition", "string"),
	},
	Row: row(func(c *certificatesv1.CertificateSigningRequest, now time.Time) []any {
		wanted := "<none>"
		if s := c.Spec.ExpirationSeconds; s != nil {
			wanted = duration.HumanDuration(time.Duration(*s) * time.Second)
		}
		return []any{c.Name, created(c, now), c.Spec.SignerName, c.Spec.Username, wanted, certificateState(c)}
	}),
}

func certificateState(c *certificatesv1.CertificateSigningRequest) string {
	approved, denied, failed := false, false, false
	for _, condition := range c.Status.Conditions {
		switch condition.Type {
		case certificatesv1.CertificateApproved:
			approved = true
		case certificatesv1.CertificateDenied:
			denied = true
		case certificatesv1.CertificateFailed:
			failed = true
		}
	}
	text := "Pending"
	switch {
	case denied:
		text = "Denied"
	case approved:
		text = "Approved"
	}
	if failed {
		text += ",Failed"
	}
	if len(c.Status.Certificate) > 0 {
		text += ",Issued"
	}
	return text
}

func validateCertificate(c, _ *certificatesv1.CertificateSigningRequest) field.ErrorList {
	var errs field.ErrorList
	block, _ := pem.Decode(c.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		errs = append(errs, field.Invalid(specPath.Child("request"), c.Spec.Request, "PEM block type must be CERTIFICATE REQUEST"))
	} else if request, err := x509.ParseCertificateRequest(block.Bytes); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), c.Spec.Request, err.Error()))
	} else if err := request.CheckSignature(); err != nil {
		errs = append(errs, field.Invalid(specPath.Child("request"), c.Spec.Request, err.Error()))
	}
	if len(c.Spec.Usages) == 0 {
		errs = append(errs, field.Required(specPath.Child("usages"), ""))
	}
	if c.Spec.SignerName == "" {
		errs = append(errs, field.Required(specPath.Child("signerName"), ""))
	}
	if s := c.Spec.ExpirationSeconds; s != nil && *s < 600 {
		errs = append(errs, field.Invalid(specPath.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return errs
}

// validateApproval: a decision is taken once.
func validateApproval(c, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	at := field.NewPath("status", "conditions")
	decision := map[certificatesv1.RequestConditionType]bool{}
	var errs field.ErrorList
	for i, condition := range c.Status.Conditions {
		if condition.Type == "" {
			errs = append(errs, field.Required(at.Index(i).Child("type"), ""))
		}
		decision[condition.Type] = true
		wantsTrue := condition.Type == certificatesv1.CertificateApproved || condition.Type == certificatesv1.CertificateDenied || condition.Type == certificatesv1.CertificateFailed
		if wantsTrue && condition.Status != corev1.ConditionTrue {
			errs = append(errs, field.NotSupported(at.Index(i).Child("status"), condition.Status, []corev1.ConditionStatus{corev1.ConditionTrue}))
		}
	}
	if decision[certificatesv1.CertificateApproved] && decision[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(at, c.Status.Conditions, "Approved and Denied conditions are mutually exclusive"))
	}
	for _, kept := range old.Status.Conditions {
		found := false
		for _, condition := range c.Status.Conditions {
			found = found || equality.Semantic.DeepEqual(kept, condition)
		}
		if !found {
			errs = append(errs, field.Forbidden(at, "updates may not remove a condition of type \""+string(kept.Type)+"\""))
		}
	}
	return errs
}
