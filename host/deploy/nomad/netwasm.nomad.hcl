# Not tried: no Nomad was at hand. The syntax is checked, and each netwasm setting.

variable "image" {
  type    = string
  default = "registry.example/netwasm:0.1.0"
}

job "netwasm" {
  type = "service"

  # One after the other, and back if one does not become ready.
  update {
    max_parallel      = 1
    health_check      = "checks"
    min_healthy_time  = "10s"
    healthy_deadline  = "3m"
    progress_deadline = "10m"
    auto_revert       = true
  }

  group "netwasm" {
    count = 3

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      port "http" {
        to = 8080
      }
      port "probes" {
        to = 9464
      }
    }

    service {
      name     = "netwasm"
      port     = "http"
      provider = "nomad"

      check {
        name     = "ready"
        type     = "http"
        port     = "probes"
        path     = "/readyz"
        interval = "2s"
        timeout  = "2s"
      }
    }

    task "netwasm" {
      driver = "docker"

      # Nomad takes the service away from its catalogue when it sends the signal;
      # shutdown-delay is the time for others to notice.
      kill_signal  = "SIGTERM"
      kill_timeout = "45s"

      config {
        image           = var.image
        entrypoint      = ["/usr/bin/netwasm"]
        args            = ["run", "--config", "/local/netwasm.toml"]
        ports           = ["http", "probes"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
      }

      user = "65532:65532"

      env {
        XDG_CACHE_HOME = "${NOMAD_ALLOC_DIR}/data"
      }

      # A change of the template is a reload.
      template {
        destination   = "local/netwasm.toml"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-TOML
          probes = "0.0.0.0:9464"
          log-format = "json"
          shutdown-delay = "10s"
          shutdown-timeout = "30s"
          max-connections = 2000
          max-memory = "32MiB"

          [services.site]
          component = "oci://registry.example/site:1.0"
          http = "0.0.0.0:8080"
        TOML
      }

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
