"use strict";
// Adds a passkey, or signs in with one. A block with `data-passkey` says which, and where the server's two answers are.

const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
const toText = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

async function ask(block, address, body) {
    const token = block.closest("form").querySelector("[name=csrfmiddlewaretoken]").value;
    const answer = await fetch(address, {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json", "X-CSRFToken": token },
        body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
}

const keyed = (list) => (list || []).map((entry) => ({ ...entry, id: toBytes(entry.id) }));

async function register(options) {
    const made = await navigator.credentials.create({
        publicKey: {
            ...options,
            challenge: toBytes(options.challenge),
            user: { ...options.user, id: toBytes(options.user.id) },
            excludeCredentials: keyed(options.excludeCredentials),
        },
    });
    return {
        ...named(made),
        response: {
            clientDataJSON: toText(made.response.clientDataJSON),
            attestationObject: toText(made.response.attestationObject),
            transports: made.response.getTransports ? made.response.getTransports() : [],
        },
    };
}

async function authenticate(options) {
    const given = await navigator.credentials.get({
        publicKey: { ...options, challenge: toBytes(options.challenge), allowCredentials: keyed(options.allowCredentials) },
    });
    return {
        ...named(given),
        response: {
            clientDataJSON: toText(given.response.clientDataJSON),
            authenticatorData: toText(given.response.authenticatorData),
            signature: toText(given.response.signature),
            userHandle: given.response.userHandle ? toText(given.response.userHandle) : null,
        },
    };
}

function named(credential) {
    return {
        id: credential.id,
        rawId: toText(credential.rawId),
        type: credential.type,
        authenticatorAttachment: credential.authenticatorAttachment,
        clientExtensionResults: credential.getClientExtensionResults(),
    };
}

async function run(block) {
    const ceremony = block.dataset.passkey === "register" ? register : authenticate;
    const options = await ask(block, block.dataset.begin, {});
    await ask(block, block.dataset.complete, await ceremony(options));
    if (block.dataset.target) window.location.assign(block.dataset.target);
    else block.closest("form").submit(); // without the check of empty fields
}

for (const block of document.querySelectorAll("[data-passkey]")) {
    const problem = block.querySelector("[role=alert]");
    block.querySelector("button").addEventListener("click", (event) => {
        event.preventDefault();
        problem.hidden = true;
        const able = window.isSecureContext && window.PublicKeyCredential;
        Promise.resolve(able ? run(block) : Promise.reject(new Error("unable"))).catch(() => {
            problem.textContent = able ? block.dataset.failed : block.dataset.unable;
            problem.hidden = false;
        });
    });
}
