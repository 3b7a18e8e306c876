"""What the pages of reports and audits share: template, style, scripts, security policy and images."""
