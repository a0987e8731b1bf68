// Talking to the studio: JSON in, JSON out, errors as one sentence.

export class StudioError extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

async function answer(response) {
  const data = await response.json().catch(() => ({}));
  if (!response.ok) throw new StudioError(data.error || `The studio answered ${response.status}.`, response.status);
  return data;
}

const HEADERS = { "X-Diffvas-Studio": "1" };

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? HEADERS : { ...HEADERS, "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new StudioError("The studio does not answer; is it still running?", 0);
  }
  return answer(response);
}

// XMLHttpRequest, because fetch does not tell how much of an upload is done
export function upload(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/clips?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("X-Diffvas-Studio", "1");
    request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(1, event.total));
    request.onerror = () => reject(new StudioError("The upload broke off; the studio may have refused the file or stopped.", 0));
    request.onload = () => {
      let data = {};
      try { data = JSON.parse(request.responseText); } catch { /* the status says enough */ }
      if (request.status === 200) resolve(data);
      else reject(new StudioError(data.error || `The studio answered ${request.status}.`, request.status));
    };
    request.send(file);
  });
}
