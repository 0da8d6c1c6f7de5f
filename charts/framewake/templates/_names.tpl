{{/* The release's name, with the chart's in it once. Names of the parts are longer, so it is cut. */}}
{{- define "framewake.name" -}}
{{- $name := ternary .Release.Name (printf "%s-framewake" .Release.Name) (contains "framewake" .Release.Name) -}}
{{- $name | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{/* What a pod is selected by: (list $ "scheduler"). Workers have these from their pool; other labels of theirs are the scheduler's to give. */}}
{{- define "framewake.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of an object: (list $ "scheduler") */}}
{{- define "framewake.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: framewake
{{ include "framewake.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* An image: (list .Values.nats.image "default tag") */}}
{{- define "framewake.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end }}

{{- define "framewake.schedulerAccount" -}}
{{ .Values.serviceAccounts.scheduler.existing | default (include "framewake.name" .) }}
{{- end }}

{{- define "framewake.workersAccount" -}}
{{ .Values.serviceAccounts.workers.existing | default (printf "%s-workers" (include "framewake.name" .)) }}
{{- end }}

{{/* Secrets that scheduler and workers both need. */}}
{{- define "framewake.sharedSecrets" -}}
{{- $secrets := list -}}
{{- with .Values.store.existingSecret }}{{ $secrets = append $secrets . }}{{ end -}}
{{- with .Values.nats.existingSecret }}{{ $secrets = append $secrets . }}{{ end -}}
{{ $secrets | uniq | toJson }}
{{- end }}

{{/* Secrets that workers need: with a join token, the scheduler signs their calls of the store. */}}
{{- define "framewake.workerSecrets" -}}
{{- if .Values.nats.keysSecret -}}
{{ list .Values.nats.existingSecret | toJson }}
{{- else -}}
{{ include "framewake.sharedSecrets" . }}
{{- end -}}
{{- end }}

{{/* The namespaces of the pools, and the release's. */}}
{{- define "framewake.namespaces" -}}
{{- $namespaces := list .Release.Namespace -}}
{{- range $pool := .Values.pools }}
{{- with dig "provider" "namespace" "" ($pool | default dict) }}{{ $namespaces = append $namespaces . }}{{ end -}}
{{- end -}}
{{ $namespaces | uniq | sortAlpha | toJson }}
{{- end }}

{{/* A pool file: (list $ "name" $pool). What every pool needs alike is filled in. */}}
{{- define "framewake.pool" -}}
{{- $root := index . 0 -}}
{{- $pool := deepCopy (index . 2) -}}
{{- $provider := $pool.provider | default dict -}}
{{- $_ := set $provider "kind" "kubernetes" -}}
{{- $_ := set $provider "namespace" ($provider.namespace | default $root.Release.Namespace) -}}
{{- $_ := set $provider "service_account" ($provider.service_account | default (include "framewake.workersAccount" $root)) -}}
{{- $secrets := concat (include "framewake.workerSecrets" $root | fromJsonArray) ($provider.environment_from | default list) -}}
{{- if $secrets }}{{ $_ := set $provider "environment_from" ($secrets | uniq) }}{{ end -}}
{{- $pull := concat $root.Values.imagePullSecrets ($provider.image_pull_secrets | default list) -}}
{{- if $pull }}{{ $_ := set $provider "image_pull_secrets" ($pull | uniq) }}{{ end -}}
{{- $labels := include "framewake.selector" (list $root "worker") | fromYaml -}}
{{- $_ := set $provider "labels" (merge $labels ($provider.labels | default dict)) -}}
{{- $_ := set $pool "provider" $provider -}}
{{- $_ := set $pool "name" (index . 1) -}}
{{ toYaml $pool }}
{{- end }}

{{- define "framewake.natsAddress" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "framewake.name" . }}-nats:4222
{{- else -}}
{{ .Values.nats.url | required "nats.url or nats.existingSecret must be set where nats.enabled is false" }}
{{- end -}}
{{- end }}

{{/* Security of a pod: nothing but what the restricted standard allows. */}}
{{- define "framewake.podSecurity" -}}
runAsNonRoot: true
seccompProfile: { type: RuntimeDefault }
{{- with .Values.runAs }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}

{{/* Security of a container. */}}
{{- define "framewake.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "framewake.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Names by which a farm is reached that asks nobody for a token. */}}
{{- define "framewake.names" -}}
{{- $service := printf "%s.%s.svc" (include "framewake.name" .) .Release.Namespace -}}
{{- $names := list (include "framewake.name" .) (printf "%s.%s" (include "framewake.name" .) .Release.Namespace) $service (printf "%s.cluster.local" $service) -}}
{{- if .Values.ingress.enabled }}{{ $names = append $names .Values.ingress.host }}{{ end -}}
{{- if and .Values.route.enabled .Values.route.host }}{{ $names = append $names .Values.route.host }}{{ end -}}
{{- concat $names .Values.names | uniq | join "," -}}
{{- end }}

{{/* What does not go together, said before anything is made. */}}
{{- define "framewake.check" -}}
{{- $ours := list "FRAMEWAKE_DATA" "FRAMEWAKE_LISTEN" "FRAMEWAKE_ACCESS" "FRAMEWAKE_NAMES" "FRAMEWAKE_FARM" "FRAMEWAKE_STORE" "FRAMEWAKE_STORE_SETUP" "FRAMEWAKE_NATS_URL" "FRAMEWAKE_NATS_SEED_FILE" "FRAMEWAKE_POOLS" "FRAMEWAKE_FUNCTIONS" "FRAMEWAKE_SLOTS" "FRAMEWAKE_SMTP" "FRAMEWAKE_SMTP_FROM" "FRAMEWAKE_LEADER_LEASE" "FRAMEWAKE_TLS_CERT" "FRAMEWAKE_TLS_KEY" "FRAMEWAKE_KEDA_LISTEN" "FRAMEWAKE_OPENFAAS_LISTEN" "FRAMEWAKE_OPENFAAS_PASSWORD_FILE" "FRAMEWAKE_OPENFAAS_CALLBACK_SECRET_FILE" -}}
{{- range $name, $_ := .Values.scheduler.environment }}
{{- if has $name $ours }}{{ fail (printf "scheduler.environment.%s: the chart sets it itself, from another value" $name) }}{{ end -}}
{{- end -}}
{{- if and (not .Values.persistence.enabled) (not .Values.replication.enabled) }}
{{- fail "persistence.enabled and replication.enabled are both false: a new pod would begin with an empty database, and every job would be lost" }}
{{- end -}}
{{- if and .Values.replication.enabled (not .Values.replication.url) }}
{{- fail "replication.url must be set where replication.enabled is true: s3://bucket/path" }}
{{- end -}}
{{- if gt (int .Values.scheduler.replicas) 1 }}
{{- if not (and .Values.persistence.enabled (or .Values.persistence.existingClaim (eq .Values.persistence.accessMode "ReadWriteMany"))) }}
{{- fail "scheduler.replicas is 2, and both must mount the same volume: set persistence.accessMode to ReadWriteMany, or persistence.existingClaim" }}
{{- end -}}
{{- if .Values.replication.enabled }}
{{- fail "scheduler.replicas is 2 and replication.enabled is true: two would write the same copy" }}
{{- end -}}
{{- end -}}
{{- if and .Values.openfaas.enabled (not .Values.openfaas.existingSecret) }}
{{- fail "openfaas.existingSecret must be set where openfaas.enabled is true: a secret with `password`" }}
{{- end -}}
{{- if and .Values.nats.keysSecret .Values.nats.open }}
{{- fail "nats.keysSecret and nats.open are both set: with the keys NATS is not open" }}
{{- end -}}
{{- if not (or .Values.nats.keysSecret .Values.nats.open) }}
{{- fail "nats.keysSecret must be set: a secret with the keys by which each worker may do on NATS what it must and nothing else (three commands: docs/kubernetes.md, Install). Where whoever reaches NATS may do everything there, say so: nats.open=true" }}
{{- end -}}
{{- if and .Values.nats.keysSecret (not .Values.nats.existingSecret) }}
{{- fail "nats.existingSecret must be set where nats.keysSecret is: a secret with the FRAMEWAKE_JOIN_TOKEN of the workers" }}
{{- end -}}
{{- if and .Values.smtp.existingSecret (not .Values.smtp.from) }}
{{- fail "smtp.from must be set where smtp.existingSecret is" }}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.host must be set where ingress.enabled is true: without it the controller would answer for every name" }}
{{- end -}}
{{- end }}

{{/* Credentials of the copy. */}}
{{- define "framewake.replicationEnvironment" -}}
{{- with .Values.replication.existingSecret }}
envFrom:
  - secretRef: { name: {{ . }} }
{{- end }}
{{- end }}

{{/* Ports that workers reach the store and other inputs by. */}}
{{- define "framewake.portsOfStore" -}}
{{- $ports := list -}}
{{- if .Values.store.endpoint }}
{{- $url := urlParse .Values.store.endpoint -}}
{{- $written := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports (int ($written | default (ternary "80" "443" (eq $url.scheme "http")))) -}}
{{- else }}
{{- $ports = append $ports 443 -}}
{{- end -}}
{{- range .Values.networkPolicy.workerPorts }}{{ $ports = append $ports (int .) }}{{ end -}}
{{ $ports | uniq | toJson }}
{{- end }}

{{- define "framewake.portOfNats" -}}
{{- regexFind ":[0-9]+$" .Values.nats.url | trimPrefix ":" | default "4222" -}}
{{- end }}
