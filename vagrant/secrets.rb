# The cluster's CA and its bootstrap token, made on the host before the first
# machine is: so each machine that joins can be told the CA's hash, and none has
# to be asked for it. They stay in vagrant/.vagrant; a new cluster has the same.
#
# The CA goes to node-1 alone, where `podarium init` finds it, as kubeadm does, in
# /etc/kubernetes/pki. Everything else is made there.
require "digest"
require "fileutils"
require "openssl"
require "securerandom"

class Secrets
  attr_reader :folder

  def initialize(base)
    @token_file = File.join(base, "token")
    @folder = File.join(base, "pki")
    return if File.exist?(cert_file)
    FileUtils.mkdir_p(@folder, mode: 0o700)
    write(@token_file, "#{letters(6)}.#{letters(16)}")
    make_ca # the certificate last: it says that all is there
  end

  def token = File.read(@token_file)

  # As kubeadm writes it: of the public key, DER encoded.
  def ca_hash
    cert = OpenSSL::X509::Certificate.new(File.read(cert_file))
    "sha256:" + Digest::SHA256.hexdigest(cert.public_key.public_to_der)
  end

  private

  def cert_file = File.join(@folder, "ca.crt")

  def letters(count) = Array.new(count) { [*"a".."z", *"0".."9"][SecureRandom.random_number(36)] }.join

  def make_ca
    key = OpenSSL::PKey::EC.generate("prime256v1")
    cert = OpenSSL::X509::Certificate.new
    cert.version = 2 # counted from 0: X.509 v3
    cert.serial = SecureRandom.random_number(2**127)
    cert.subject = cert.issuer = OpenSSL::X509::Name.parse("/CN=kubernetes")
    cert.public_key = key
    cert.not_before = Time.now - 300
    cert.not_after = Time.now + 10 * 365 * 24 * 3600
    extensions = OpenSSL::X509::ExtensionFactory.new(cert, cert)
    cert.add_extension(extensions.create_extension("basicConstraints", "CA:TRUE", true))
    cert.add_extension(extensions.create_extension("keyUsage", "keyCertSign, digitalSignature", true))
    cert.add_extension(extensions.create_extension("subjectKeyIdentifier", "hash"))
    cert.sign(key, OpenSSL::Digest.new("SHA256"))
    write(File.join(@folder, "ca.key"), key.to_pem)
    write(cert_file, cert.to_pem)
  end

  def write(path, text) = File.write(path, text, perm: 0o600)
end
