{{- define "penstock.labels" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/part-of: penstock
{{- end }}

{{- define "penstock.secret" -}}
{{- if .Values.channel.existingSecret }}{{ .Values.channel.existingSecret }}{{ else }}penstock-channel{{ end }}
{{- end }}

{{- /* The pod of a role ("" for all of them). Called with a dict of root and role. */}}
{{- define "penstock.pod" -}}
{{- $ := .root -}}
serviceAccountName: penstock
terminationGracePeriodSeconds: 45
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: penstock
    image: {{ $.Values.image.repository }}:{{ $.Values.image.tag | default $.Chart.AppVersion }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    args: [serve]
    env:
      - name: PENSTOCK_LISTEN
        value: :8080
      - name: PENSTOCK_DATA
        value: /var/lib/penstock
      - name: PENSTOCK_ADVERTISE
        value: http://penstock-ingress.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}
      - name: PENSTOCK_LOG_FORMAT
        value: json
      {{- if .role }}
      - name: PENSTOCK_ROLE
        value: {{ .role }}
      - name: PENSTOCK_CHANNEL
        valueFrom:
          secretKeyRef:
            name: {{ include "penstock.secret" $ }}
            key: url
      {{- end }}
      {{- range $name, $value := $.Values.settings }}
      - name: PENSTOCK_{{ $name }}
        value: {{ $value | quote }}
      {{- end }}
    ports:
      - name: http
        containerPort: 8080
    readinessProbe:
      httpGet:
        path: /readyz
        port: http
      periodSeconds: 2
    livenessProbe:
      httpGet:
        path: /healthz
        port: http
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    {{- if .role }}
    lifecycle:
      preStop:
        sleep:
          seconds: 3
    {{- end }}
    resources:
      {{- toYaml $.Values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    volumeMounts:
      - name: data
        mountPath: /var/lib/penstock
      - name: tmp
        mountPath: /tmp
volumes:
  {{- if .role }}
  - name: data
    emptyDir: {}
  {{- end }}
  - name: tmp
    emptyDir: {}
{{- end }}
