"""As much of Google Cloud Storage's XML API as a shared cache asks for, in memory; for tests alone.

Checks what matters of the requests: a create-only put says `x-goog-if-generation-match: 0`, alone or when a multipart upload
is completed. Uploads outlive who began them, and ranges are given.
"""

import hashlib
import http.server
import itertools
import re
import threading
import urllib.parse
import xml.sax.saxutils


class Bucket:
    def __init__(self):
        self.lock = threading.Lock()
        self.objects = {}
        self.uploads = {}
        self.generation = itertools.count(1)
        self.conditional = 0
        self.refused = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body)
            except OSError:
                # A client that was killed.
                self.close_connection = True

    def parts(self):
        url = urllib.parse.urlsplit(self.path)
        name = urllib.parse.unquote(url.path).lstrip("/").partition("/")[2]
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return name, query, body

    def described(self, found):
        body, generation = found
        return {"ETag": '"%s"' % hashlib.md5(body).hexdigest(), "x_goog_generation": str(generation), "Last_Modified": "Mon, 23 Nov 2026 09:40:12 GMT"}

    def store(self, name, body):
        bucket = self.server.bucket
        with bucket.lock:
            if self.headers.get("x-goog-if-generation-match") == "0":
                bucket.conditional += 1
                if name in bucket.objects:
                    bucket.refused += 1
                    return self.answer(412, b"<Error><Code>PreconditionFailed</Code><Message>exists</Message></Error>")
            bucket.objects[name] = (body, next(bucket.generation))
            found = bucket.objects[name]
        return found

    def do_GET(self):
        name, query, _ = self.parts()
        bucket = self.server.bucket
        if not name or "list-type" in query:
            prefix = query.get("prefix", "")
            with bucket.lock:
                found = sorted((n, len(b)) for n, (b, _) in bucket.objects.items() if n.startswith(prefix))
            rows = "".join(
                f"<Contents><Key>{xml.sax.saxutils.escape(n)}</Key><LastModified>2026-11-23T09:40:12.000Z</LastModified>"
                f'<ETag>"x"</ETag><Size>{size}</Size></Contents>'
                for n, size in found
            )
            return self.answer(200, f"<ListBucketResult>{rows}<IsTruncated>false</IsTruncated></ListBucketResult>".encode())
        with bucket.lock:
            found = bucket.objects.get(name)
        if found is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, found[0], **self.described(found))
        if self.headers.get("If-Match", self.described(found)["ETag"]) != self.described(found)["ETag"]:
            return self.answer(412, b"<Error><Code>PreconditionFailed</Code><Message>changed</Message></Error>")
        piece = found[0][int(wanted[1]) : int(wanted[2]) + 1]
        said = f"bytes {wanted[1]}-{int(wanted[1]) + len(piece) - 1}/{len(found[0])}"
        self.answer(206, piece, Content_Range=said, **self.described(found))

    do_HEAD = do_GET

    def do_PUT(self):
        name, query, body = self.parts()
        if "uploadId" in query and query["uploadId"] not in self.server.bucket.uploads:
            return self.no_upload()
        if "partNumber" in query:
            self.server.bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return self.answer(200, ETag='"%s"' % hashlib.md5(body).hexdigest())
        found = self.store(name, body)
        if found:
            self.answer(200, **self.described(found))

    def do_POST(self):
        name, query, _ = self.parts()
        bucket = self.server.bucket
        if "uploads" in query:
            upload = str(next(bucket.generation))
            bucket.uploads[upload] = {}
            text = f"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, text.encode())
        parts = bucket.uploads.pop(query["uploadId"], None)
        if parts is None:
            return self.no_upload()
        found = self.store(name, b"".join(parts[n] for n in sorted(parts)))
        if found:
            etag = self.described(found)["ETag"]
            text = f"<CompleteMultipartUploadResult><ETag>{xml.sax.saxutils.escape(etag)}</ETag></CompleteMultipartUploadResult>"
            self.answer(200, text.encode(), x_goog_generation=str(found[1]))

    def no_upload(self):
        self.answer(404, b"<Error><Code>NoSuchUpload</Code><Message>none</Message></Error>")

    def do_DELETE(self):
        name, query, _ = self.parts()
        if "uploadId" in query:
            self.server.bucket.uploads.pop(query["uploadId"], None)
        else:
            with self.server.bucket.lock:
                self.server.bucket.objects.pop(name, None)
        self.answer(204)


def serve(port):
    """Serves on a thread of its own; gives the bucket to look into."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.bucket = Bucket()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.bucket
