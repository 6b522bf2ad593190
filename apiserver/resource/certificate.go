package resource

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CertificateSigningRequest asks the cluster's CA for a certificate. Somebody
// approves it through the subresource approval (`kubectl certificate approve`),
// then a signer writes the certificate into its status.
var CertificateSigningRequest = &Kind{
	GroupVersion: certificatesv1.SchemeGroupVersion,
	Kind:         "CertificateSigningRequest", Plural: "certificatesigningrequests", Singular: "certificatesigningrequest", ShortNames: []string{"csr"},
	Prefix:    "/registry/certificatesigningrequests/",
	MetaAgain: metaAround,
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
	errs = append(errs, validateUsages(c.Spec.Usages, specPath.Child("usages"))...)
	errs = append(errs, validateSigner(c.Spec.SignerName, specPath.Child("signerName"))...)
	if s := c.Spec.ExpirationSeconds; s != nil && *s < 600 {
		errs = append(errs, field.Invalid(specPath.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return errs
}

// usages are what a certificate may be for.
var usages = []certificatesv1.KeyUsage{
	certificatesv1.UsageAny, certificatesv1.UsageCertSign, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning, certificatesv1.UsageContentCommitment,
	certificatesv1.UsageCRLSign, certificatesv1.UsageDataEncipherment, certificatesv1.UsageDecipherOnly, certificatesv1.UsageDigitalSignature,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageEncipherOnly, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel,
	certificatesv1.UsageIPsecUser, certificatesv1.UsageKeyAgreement, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageMicrosoftSGC,
	certificatesv1.UsageNetscapeSGC, certificatesv1.UsageOCSPSigning, certificatesv1.UsageSMIME, certificatesv1.UsageServerAuth, certificatesv1.UsageSigning,
	certificatesv1.UsageTimestamping,
}

func validateUsages(list []certificatesv1.KeyUsage, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	for i, usage := range list {
		if !slices.Contains(usages, usage) {
			errs = append(errs, field.NotSupported(at.Index(i), usage, usages))
		}
	}
	for i, usage := range list {
		if slices.Contains(list[:i], usage) {
			errs = append(errs, field.Duplicate(at.Index(i), usage))
		}
	}
	return errs
}

// validateSigner: a signer is named example.com/signer-name.
func validateSigner(name string, at *field.Path) field.ErrorList {
	domain, path, _ := strings.Cut(name, "/")
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case name == "kubernetes.io/legacy-unknown":
		return field.ErrorList{field.Invalid(at, name, "the legacy signerName is not allowed via this API version")}
	case strings.Count(name, "/") != 1:
		return field.ErrorList{field.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(at, "", validation.DNS1123SubdomainMaxLength))
	}
	errs = append(errs, firstBadLabel(at, domain, validation.IsDNS1123Label)...)
	if !strings.Contains(domain, ".") {
		errs = append(errs, field.Invalid(at, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, firstBadLabel(at, path, validation.IsDNS1123Subdomain)...)
	const longest = 2*validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 2
	if len(name) > longest {
		errs = append(errs, field.TooLong(at, "", longest))
	}
	return errs
}

// firstBadLabel has the errors of the first label, between dots, that is wrong.
func firstBadLabel(at *field.Path, name string, rule func(string) []string) field.ErrorList {
	var errs field.ErrorList
	for label := range strings.SplitSeq(name, ".") {
		for _, msg := range rule(label) {
			errs = append(errs, field.Invalid(at, name, fmt.Sprintf("validating label %q: %s", label, msg)))
		}
		if len(errs) > 0 {
			return errs
		}
	}
	return nil
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
